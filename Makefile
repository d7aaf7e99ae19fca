# Everything a fresh Debian or Ubuntu machine with Rust needs: `make run`, `make test`.

SHELL := /bin/bash
CARGO ?= cargo
SEEDS ?= 100

.PHONY: help run test build lint fmt setup sim sim-planted bench-sim bench-failover bench-takeover bench-sessions bench-model bench-balance trials check-docs test-processes

help: ## This list
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | awk -F':.*## ' '{printf "  make %-15s %s\n", $$1, $$2}'

run: build ## Set up, build, and run the demo: a zone on this machine, faults and all
	target/debug/zonectl demo $(ARGS)

# Determinism first: what the simulation says stands on it. The whole also builds the servers, which the
# suite over real processes starts.
test: setup ## Set up, and pass all tests
	$(CARGO) test --workspace --test determinism -- --nocapture
	$(CARGO) test --workspace

test-processes: setup ## Of the tests only those with whole zones of real processes (minutes)
	$(CARGO) test --workspace --no-run
	$(CARGO) test --workspace --test zone

build: setup ## Set up, and build every binary
	$(CARGO) build --workspace --bins

lint: setup ## Formatting and clippy, as CI runs them
	$(CARGO) fmt --all --check
	$(CARGO) clippy --workspace --all-targets -- -D warnings

fmt: ## Format the code
	$(CARGO) fmt --all

sim: build ## Simulate whole zones: make sim SEEDS=1000, with ARGS for `sim sweep`
	target/debug/sim sweep --seeds 0..$(SEEDS) $(ARGS)

bench-sim: build ## How fast zones are simulated here (a minute, with nothing else running)
	target/debug/sim bench $(ARGS)

# The programs of this build refuse to serve a real zone; `make build` puts the ordinary ones back.
sim-planted: setup ## Prove that the simulation finds bugs: plant them one by one, print a table
	$(CARGO) build --workspace --bins --features sim-tests/planted-bugs
	target/debug/sim planted $(ARGS)

trials: setup ## Blackouts, operations and full speed on real processes, with figures (about 5 minutes)
	$(CARGO) build --workspace --bins --examples
	target/debug/examples/trials $(ARGS)

# etcd is for comparison only: without it the benchmark runs, and names the rows that are missing.
bench-failover: setup ## Faults of all kinds on real processes, with etcd beside (half an hour; ARGS=--quick: 5 minutes)
	@./setup.sh etcd || echo "etcd is missing: the benchmark says so in its rows." >&2
	$(CARGO) build --workspace --bins --examples
	target/debug/examples/failover $(ARGS)

bench-takeover: setup ## How long a takeover takes if the dead node led 10, 100, 1,000 partitions (a few minutes)
	$(CARGO) build --workspace --bins --examples
	target/debug/examples/takeover $(ARGS)

bench-sessions: setup ## A thousand sessions and the loss of the control plane's leader (some minutes; ARGS=--quick: one)
	$(CARGO) build --workspace --bins --examples
	target/debug/examples/sessions $(ARGS)

bench-model: setup ## The model with many partitions, and the solver of reassignment problems (some minutes)
	$(CARGO) build --workspace --bins --examples
	target/debug/examples/scale --nodes 1000 --partitions 100000
	target/debug/examples/reassignment $(ARGS)
	target/debug/examples/heat_cost

bench-balance: setup ## The balance planner on models, then a live zone whose hot range jumps (half an hour; ARGS=--quick: some minutes less)
	$(CARGO) build --workspace --bins --examples
	target/debug/examples/balance
	target/debug/examples/hotspots $(ARGS)

check-docs: build ## Run the commands of the README and the runbooks as they are written (about a minute)
	runbooks/check.sh

setup: ## Install what the build needs and the machine lacks (libclang, a C++ compiler)
	@./setup.sh
