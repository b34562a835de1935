#!/usr/bin/env bash
# `make test`: everything a change must pass. The quick checks come first.
set -euo pipefail
source "$(dirname "$0")/lib.sh"

step "test tools" scripts/setup-tests.sh
step "format" cargo fmt --all --check
step "dependencies" cargo deny check bans licenses sources
step "lints" cargo clippy --workspace --all-targets --locked -- --deny warnings
step "documentation" env RUSTDOCFLAGS="--deny warnings" cargo doc --workspace --no-deps --locked
step "tests" cargo nextest run --workspace --locked --no-fail-fast
step "examples in documentation" cargo test --workspace --doc --locked --quiet
step "hot paths" scripts/guard.sh
finish
