#!/usr/bin/env bash
# `make bench`: Newswire and whoever is installed beside it, on this machine. FULL=1 takes 15 rounds of everything, as the
# published figures are taken, which needs hours; without it, a quarter of one.
set -euo pipefail
source "$(dirname "$0")/lib.sh"

profile=(--pairs 3)
if [[ -n ${FULL:-} ]]; then
  profile=(--pairs 15 --full)
fi

step "build" cargo build --release --locked --package newswire-server --package newswire-bench
step "measure" target/release/newswire-bench "${profile[@]}"
finish
