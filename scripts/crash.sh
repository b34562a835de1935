#!/usr/bin/env bash
# `make crash`: kills a server under load at random moments, ROUNDS times, and checks after each that every
# acknowledged event is there, that offsets have no holes and that resumed subscribers miss and repeat nothing.
set -euo pipefail
source "$(dirname "$0")/lib.sh"

export NEWSWIRE_CRASH_ROUNDS=${1:?how many rounds}
step "crash, $NEWSWIRE_CRASH_ROUNDS rounds" \
    cargo test --locked --package newswire-street-tests --test crash -- --nocapture
finish
