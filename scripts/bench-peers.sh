#!/usr/bin/env bash
# `make bench-peers`: brings the peers of the benchmark into bench/peers/.installed, as far as this machine allows. It can be
# run again at any time: what is there already is left alone. What could not be brought is listed at the end; the benchmark
# then runs without it and leaves its goals unmet.
set -uo pipefail
source "$(dirname "$0")/lib.sh"

home=$PWD/bench/peers
installed=$home/.installed
missing=()
mkdir -p "$installed"

# attempt NAME WHAT-IT-IS COMMAND…: runs the command; a failure is noted and the script goes on.
attempt() {
    local name=$1 what=$2 began=$SECONDS
    shift 2
    printf '\n==> %s: %s\n' "$name" "$what"
    if "$@"; then
        printf '    %s after %s\n' "$name is there" "$(duration $((SECONDS - began)))"
    else
        missing+=("$name")
        printf '    %s could not be brought\n' "$name" >&2
    fi
}

# unchanged FILE MARK: whether MARK was made from FILE as it is now.
unchanged() { [ -e "$2" ] && cmp --silent "$1" "$2"; }

# packages PACKAGE…: brings Debian packages, where that is possible.
packages() {
    if [ "$(id -u)" -ne 0 ] || ! type -P apt-get >/dev/null; then
        echo "    what is missing comes with the Debian packages $*; as root: apt-get install $*" >&2
        return 1
    fi
    apt-get update -qq
    # No service is to be started: each measurement starts its own.
    DEBIAN_FRONTEND=noninteractive RUNLEVEL=1 apt-get install -y -qq --no-install-recommends "$@" >/dev/null
}

# command_of COMMAND PACKAGE…: the command is there, or its packages bring it.
command_of() {
    local command=$1
    shift
    type -P "$command" >/dev/null || packages "$@"
}

python() {
    unchanged "$home/requirements.txt" "$installed/python/requirements.txt" && return
    command_of python3 python3 python3-venv || return
    python3 -m venv --clear "$installed/python" &&
        "$installed/python/bin/pip" install --quiet --disable-pip-version-check -r "$home/requirements.txt" &&
        cp "$home/requirements.txt" "$installed/python/"
}

socketio() {
    unchanged "$home/socketio/package.json" "$installed/socketio/.made-from.json" && return
    command_of node nodejs npm || return
    mkdir -p "$installed/socketio" && cp "$home/socketio/package.json" "$installed/socketio/" || return
    # The native add-ons come as binaries inside their packages, so nothing has to be compiled.
    npm install --prefix "$installed/socketio" --no-package-lock --no-audit --no-fund --ignore-scripts --loglevel=error &&
        cp "$home/socketio/package.json" "$installed/socketio/.made-from.json"
}

socketioxide() {
    local target=$installed/target
    (cd "$home/socketioxide" && cargo build --release --locked --target-dir "$target") &&
        mkdir -p "$installed/socketioxide" &&
        cp "$target/release/newswire-bench-socketioxide" "$installed/socketioxide/"
}

sockudo() {
    local version=5.2.0
    "$installed/sockudo/bin/sockudo" --version 2>/dev/null | grep --quiet " $version$" && return
    # Compiles descriptions of messages, among them those that come with the library.
    command_of protoc protobuf-compiler || return
    [ -e /usr/include/google/protobuf/timestamp.proto ] || packages libprotobuf-dev
    echo "    compiling it takes 10 to 20 minutes, once"
    # As the profile of its own repository has it, which a package does not carry.
    CARGO_PROFILE_RELEASE_LTO=fat CARGO_PROFILE_RELEASE_CODEGEN_UNITS=1 \
        cargo install sockudo --locked --version "$version" --root "$installed/sockudo" --target-dir "$installed/target"
}

nchan() {
    command_of nginx nginx-light || return
    local dir
    for dir in /usr/lib/nginx/modules /usr/lib64/nginx/modules /usr/libexec/nginx/modules; do
        [ -e "$dir/ngx_nchan_module.so" ] && return
    done
    packages libnginx-mod-nchan
}

centrifugo() {
    type -P centrifugo >/dev/null && return
    echo "    no registry carries it; put its binary on the PATH" >&2
    return 1
}

attempt "Litestar and NATS" "Python packages, as in bench/peers/requirements.txt" python
attempt "Socket.IO" "npm packages, as in bench/peers/socketio/package.json" socketio
attempt "socketioxide" "a small application, compiled" socketioxide
attempt "Redis" "a Debian package" command_of redis-server redis-server
attempt "nchan" "Debian packages" nchan
attempt "sockudo" "a crate, compiled" sockudo
attempt "Centrifugo" "a binary, where there is one" centrifugo

if [ ${#missing[@]} -eq 0 ]; then
    printf '\n==> every peer is there (%s)\n' "$(duration "$SECONDS")"
else
    printf '\n==> missing after %s: %s\n' "$(duration "$SECONDS")" "$(IFS=,; echo "${missing[*]}" | sed 's/,/, /g')"
    echo "    The benchmark runs without them; what is claimed against them stays unmet."
fi
