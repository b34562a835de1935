#!/usr/bin/env bash
# `make audit`: known vulnerabilities, withdrawn versions and abandoned crates. Needs the network, so it is no
# part of `make test`: what a stranger reported today must not break a build that was right yesterday.
set -euo pipefail
source "$(dirname "$0")/lib.sh"

step "test tools" scripts/setup-tests.sh
step "advisories" cargo deny check advisories
finish
