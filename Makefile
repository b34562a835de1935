# Every task of this repository. The logic lives in scripts/, so that it can be read and run on its own.

ROUNDS ?= 1000
FUZZ_SECONDS ?= 60

.DEFAULT_GOAL := help
.PHONY: help run test book fuzz crash chaos guard bench bench-peers audit schemas

help: ## list the tasks
	@echo "make TASK, where TASK is one of:"
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  \1\t\2/p' $(firstword $(MAKEFILE_LIST)) | expand -t 16

run: ## build, start a server on 127.0.0.1:8080, play the demo company, show the feed (LISTEN=host:port, DATA_DIR=dir)
	@scripts/run.sh

test: ## everything a change must pass: format, lints, docs, tests, dependencies
	@scripts/test.sh

fuzz: ## fuzz every target for FUZZ_SECONDS=60 each (needs nightly and cargo-fuzz)
	@scripts/fuzz.sh $(FUZZ_SECONDS)

crash: ## kill a loaded server at ROUNDS=1000 random moments, check that nothing acknowledged is lost
	@scripts/crash.sh $(ROUNDS)

chaos: ROUNDS = 100
chaos: ## break nodes, engines and links under load for ROUNDS=100 rounds, check every history (SEED=n repeats choices)
	@scripts/chaos.sh $(ROUNDS) $(SEED)

guard: ## count the instructions of the hot paths, fail where one takes more than its limit (part of `make test`)
	@scripts/guard.sh

bench: ## measure Newswire beside its limits and whoever is installed (FULL=1: as the published figures are)
	@scripts/bench.sh

bench-peers: ## bring what the benchmark measures beside Newswire (Python, npm and Debian packages, crates)
	@scripts/bench-peers.sh

book: ## build the documents as a book for the browser, in target/book
	@scripts/book.sh

audit: ## ask the advisory database about every dependency (needs the network)
	@scripts/audit.sh

schemas: ## write schemas/: what describes the wire to programs, from the code
	@scripts/schemas.sh
