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
