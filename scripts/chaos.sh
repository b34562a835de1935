#!/usr/bin/env bash
# `make chaos`: nodes, engines and the links between them break one at a time under load, for ROUNDS rounds over each
# engine; the history of each round is judged by `check-history`. Those that fail are kept, in NEWSWIRE_CHAOS_DIR or the
# directory for temporary files.
set -euo pipefail
source "$(dirname "$0")/lib.sh"

export NEWSWIRE_CHAOS_ROUNDS=${1:?how many rounds}
[ -z "${2:-}" ] || export NEWSWIRE_CHAOS_SEED=$2
step "chaos, $NEWSWIRE_CHAOS_ROUNDS rounds" \
    cargo test --locked --package newswire-street-tests --test cluster -- --nocapture --test-threads 1
finish
