#!/usr/bin/env bash
# `make fuzz`: every target under fuzz/fuzz_targets/, SECONDS each. A crash leaves its input in fuzz/artifacts/;
# add it to the corpus of its target, where `make test` replays it from then on.
set -euo pipefail
source "$(dirname "$0")/lib.sh"

seconds=${1:?how many seconds for each target}
if ! cargo fuzz --version >/dev/null 2>&1; then
    step "cargo-fuzz" cargo install cargo-fuzz --locked
fi
for target in fuzz/fuzz_targets/*.rs; do
    name=$(basename "$target" .rs)
    step "$name" cargo +nightly fuzz run "$name" -- -max_total_time="$seconds"
done
finish
