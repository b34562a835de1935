#!/usr/bin/env bash
# Brings what `make test` needs beyond the Rust toolchain; what is there already is left alone.
# Anything a later test needs (other servers, browsers, languages) is to be brought here, in the same way.
set -euo pipefail

# have TOOL VERSION: `cargo TOOL` runs and is at least that version.
have() {
    local found
    found=$(cargo "$1" --version 2>/dev/null | sed -n '1s/^[^ ]* \([0-9.]*\).*/\1/p')
    [ -n "$found" ] && [ "$(printf '%s\n%s\n' "$2" "$found" | sort -V | head -n 1)" = "$2" ]
}

# bring TOOL VERSION WHY
bring() {
    if have "$1" "$2"; then
        echo "cargo-$1: present"
    else
        echo "cargo-$1 $2 is missing; compiling it once, which takes minutes ($3)"
        cargo install "cargo-$1" --locked --version "$2"
    fi
}

for component in fmt clippy; do
    cargo "$component" --version >/dev/null 2>&1 || rustup component add "${component/#fmt/rustfmt}"
done
bring nextest 0.9.143 "runs each test in its own process, and stops one that hangs"
bring deny 0.20.2 "checks licences, sources and duplicates of the dependencies"

# package COMMAND PACKAGE WHY: the command is there, or comes from the system's packages.
package() {
    command -v "$1" >/dev/null && return
    echo "$1 is missing; installing $2 from the system's packages ($3)"
    local as_root=()
    [ "$(id -u)" -eq 0 ] || as_root=(sudo)
    "${as_root[@]}" apt-get update -qq
    "${as_root[@]}" apt-get install -y -qq --no-install-recommends "$2"
}

package chromium chromium "opens the pages that the documents and the server show"
package chromedriver chromium-driver "drives that browser"
package redis-server redis-server "keeps the log of several nodes; the tests start their own"
# The directory of programs for administrators is not on everybody's path.
[ -x /usr/sbin/haproxy ] || package haproxy haproxy "stands before several nodes, as deploy/haproxy.cfg says"
package openssl openssl "makes the certificates of deploy/secrets.sh"
package curl curl "follows an event stream"
package python3 python3 "runs the examples that are written in Python"
package npm npm "brings and runs tools that are written for Node.js"
# The count of instructions needs valgrind, and a runner of the very version that Cargo.lock has of its library.
package valgrind valgrind "counts instructions"
runner=$(sed -n '/^name = "gungraun"$/{n;s/^version = "\(.*\)"$/\1/p}' "$(dirname "$0")/../Cargo.lock")
if [ "$(gungraun-runner --version 2>/dev/null | sed 's/^[^ ]* //')" = "$runner" ]; then
    echo "gungraun-runner: present"
else
    echo "gungraun-runner $runner is missing; compiling it once, which takes minutes (runs the count of instructions)"
    cargo install gungraun-runner --locked --version "$runner"
fi

# What judges the served descriptions, in versions that are pinned: again where the list of them changes.
tools=$(dirname "$0")/../tests/tools
# installed KIND LIST…: what is there was made from these very lists.
installed() { [ "$(cat "$tools/.installed/$1.from" 2>/dev/null)" = "$(cat "${@:2}" | sha256sum)" ]; }
# remember KIND LIST…
remember() { cat "${@:2}" | sha256sum >"$tools/.installed/$1.from"; }

mkdir -p "$tools/.installed"
if installed python "$tools/requirements.txt"; then
    echo "Python tools: present"
else
    echo "Python tools are missing; installing them (question the API as its OpenAPI describes it, generate a client; a NATS server)"
    python3 -c "import ensurepip" 2>/dev/null || package python3-venv-is-missing python3-venv "makes environments for Python tools"
    python3 -m venv --clear "$tools/.installed/python"
    "$tools/.installed/python/bin/pip" install --quiet --disable-pip-version-check --requirement "$tools/requirements.txt"
    remember python "$tools/requirements.txt"
fi
if installed node "$tools/package.json" "$tools/package-lock.json"; then
    echo "Node.js tools: present"
else
    echo "Node.js tools are missing; installing them (read the AsyncAPI as its own parser does)"
    cp "$tools/package.json" "$tools/package-lock.json" "$tools/.installed/"
    npm ci --prefix "$tools/.installed" --ignore-scripts --no-audit --no-fund --silent
    remember node "$tools/package.json" "$tools/package-lock.json"
fi
