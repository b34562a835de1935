#!/usr/bin/env bash
# `make fuzz`: every target under fuzz/fuzz_targets/, so many seconds each. What it learns is kept in target/fuzz/ for
# the next time. A crash leaves its input in fuzz/artifacts/: add that to the target's corpus in fuzz/corpus/, which
# `make test` replays from then on.
set -euo pipefail
source "$(dirname "$0")/lib.sh"

seconds=${1:?how many seconds for each target}
if ! cargo fuzz --version >/dev/null 2>&1; then
    step "cargo-fuzz" cargo install cargo-fuzz --locked
fi
for target in fuzz/fuzz_targets/*.rs; do
    name=$(basename "$target" .rs)
    learned=target/fuzz/$name
    mkdir -p "$learned"
    step "$name" cargo +nightly fuzz run "$name" "$learned" "fuzz/corpus/$name" -- -max_total_time="$seconds"
done
finish
