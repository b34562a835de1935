#!/usr/bin/env bash
# `make guard`: counts the instructions of the hot paths and fails where one takes more than its limit.
set -euo pipefail
cd "$(dirname "$0")/.."

exec cargo bench --locked --package newswire-bench --bench instructions
