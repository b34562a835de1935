#!/usr/bin/env bash
# `make bench`: the figures of the README, on this machine.
set -euo pipefail
source "$(dirname "$0")/lib.sh"

step "build" cargo build --release --locked --package newswire-server --package newswire-bench
step "measure" cargo run --release --locked --package newswire-bench
finish
