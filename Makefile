.DEFAULT_GOAL := help

# Everything that starts servers is built with one profile: the tests run what ships.
CARGO := cargo
BUILD := $(CARGO) build --release --locked --quiet
RUN := $(CARGO) run --release --locked --quiet

# What is built. All of the workspace is selected, also where only some of it is needed: cargo unites the features of
# what is selected, and with another selection would compile most dependencies a second time. Examples are services
# of the demo.
PARTS := --workspace --bins --examples
test: PARTS := --workspace --bins --tests --examples

# What documentation is made of. With examples, features are united as for clippy: otherwise cargo would look
# at many dependencies a second time.
DOCUMENTED := --lib --examples

# A target with `## words` behind it is listed by `make help`.

.PHONY: help
help: ## this list
	@awk -F ':.*## ' '/^[a-z][a-z-]*:.*## / { printf "make %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

.PHONY: deps
deps: ## installs the system packages that building and testing need
	@bash .ci/deps

.PHONY: deps-tests
deps-tests: ## the same, and what tests need beside that
	@bash .ci/deps tests

.PHONY: build
build: deps ## builds target/release/outboxd
	$(CARGO) build --release --locked -p outboxd

.PHONY: test
test: deps-tests lint build-all ## formatting, lints, unit tests, and short simulation, scenarios and chaos
	$(CARGO) test --release --locked --workspace --quiet
	$(MAKE) --no-print-directory sim SEEDS=2000
	$(MAKE) --no-print-directory scenarios-short PARTS='$(PARTS)'
	$(MAKE) --no-print-directory scenarios-proof PARTS='$(PARTS)'
	$(MAKE) --no-print-directory chaos CYCLES=4 PARTS='$(PARTS)'
	@echo 'make test: everything passed'

.PHONY: lint
lint: deps-tests
	$(CARGO) fmt --all --check
	$(CARGO) clippy --release --locked --workspace --all-targets --quiet -- -D warnings
	@bash .ci/manifests
	RUSTDOCFLAGS='-D warnings' $(CARGO) doc --release --locked --quiet --workspace --no-deps $(DOCUMENTED)

.PHONY: demo
demo: deps build-all ## Postgres, Kafka, outboxd, three services and a reader; DEMO_SECONDS=20 ends it by itself
	@target/release/demo

.PHONY: scenario
scenario: deps-tests build-all ## runs one end-to-end check on real servers: NAME=idle-slot
	@target/release/scenario $(or $(NAME),--list)

.PHONY: scenarios
scenarios: deps-tests build-all ## runs all of them
	@target/release/scenario --all

.PHONY: scenarios-short
scenarios-short: deps-tests build-all
	@target/release/scenario --short

.PHONY: scenarios-proof
scenarios-proof: deps-tests build-all ## every fault of docs/guarantees.md that is not one of chaos, some at a time
	@target/release/scenario --proof

.PHONY: chaos
chaos: deps build-all ## faults at random moments: CYCLES= or CHAOS_SECONDS= (and EACH=), SEED=, MODE=, CONCURRENCY=, PG=, BROKERS=, FAULTS=, OUTAGE_SECONDS=
	@CYCLES='$(CYCLES)' CHAOS_SECONDS='$(CHAOS_SECONDS)' EACH='$(EACH)' SEED='$(SEED)' MODE='$(MODE)' \
	  CONCURRENCY='$(CONCURRENCY)' PG='$(PG)' BROKERS='$(BROKERS)' FAULTS='$(FAULTS)' \
	  OUTAGE_SECONDS='$(OUTAGE_SECONDS)' target/release/chaos

.PHONY: chaos-brokers
chaos-brokers: ## chaos with a cluster of three brokers, which are killed
	@$(MAKE) --no-print-directory chaos BROKERS=3 CHAOS_SECONDS=$(or $(CHAOS_SECONDS),1200)

.PHONY: chaos-night
chaos-night: ## chaos for a night: every version of Postgres, one broker and three, outages of ten minutes
	@for pg in 14 15 16 17 18; do for brokers in 1 3; do \
	  $(MAKE) --no-print-directory chaos PG=$$pg BROKERS=$$brokers \
	    CHAOS_SECONDS=$(or $(CHAOS_SECONDS),3600) OUTAGE_SECONDS=600 EACH=1 || exit 1; \
	done; done

.PHONY: audit-deps
audit-deps: ## asks the advisory database about the dependencies; needs the internet, installs cargo-deny
	@cargo deny --version >/dev/null 2>&1 || $(CARGO) install --locked cargo-deny
	$(CARGO) deny --locked --config .ci/deny.toml check

.PHONY: sbom
sbom: deps ## writes target/outboxd.cdx.json, a bill of materials (CycloneDX)
	@mkdir -p target
	@$(RUN) -p scenarios --bin sbom > target/outboxd.cdx.json
	@echo 'target/outboxd.cdx.json'

SEEDS ?= 1000

.PHONY: sim
sim: deps ## simulates the delivery logic: SEEDS=1000, or one run again: SEED=
	@$(RUN) -p sim --bin sim -- $(if $(SEED),--seed $(SEED) --trace,--seeds $(SEEDS))

.PHONY: sim-mutants
sim-mutants: deps ## plants bugs in the simulated relay: the oracle must catch each
	@$(RUN) -p sim --bin sim -- --mutants --seeds 8000

.PHONY: model
model: deps ## explores the slot, checkpoint and fencing protocol exhaustively, and breaks each of its rules
	@$(RUN) -p model --bin model

.PHONY: fuzz
fuzz: deps ## fuzzes every parser: FUZZ_SECONDS=600 in all, FUZZ_TARGETS=
	@FUZZ_SECONDS='$(FUZZ_SECONDS)' FUZZ_TARGETS='$(FUZZ_TARGETS)' tests/fuzz/run

.PHONY: build-all
build-all:
	@$(BUILD) $(PARTS)

PACKAGE := target/release/package

.PHONY: deb
deb: build ## a Debian package of what `make build` builds, in target/debian
	@mkdir -p $(PACKAGE)/man
	target/release/outboxd man --dir $(PACKAGE)/man
	target/release/outboxd completions bash > $(PACKAGE)/outboxd.bash
	target/release/outboxd completions zsh > $(PACKAGE)/_outboxd
	target/release/outboxd completions fish > $(PACKAGE)/outboxd.fish
	@$(CARGO) deb --version >/dev/null 2>&1 || $(CARGO) install --locked cargo-deb
	$(CARGO) deb -p outboxd --no-build

.PHONY: clean
clean: ## removes what was built; the cache of test servers stays
	$(CARGO) clean
