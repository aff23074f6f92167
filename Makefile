# The only verbs of the project. `make help` lists them; hooks and CI call these and nothing else.
SHELL := /bin/bash
.DELETE_ON_ERROR:
.DEFAULT_GOAL := help

export PIP_DISABLE_PIP_VERSION_CHECK := 1
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
SETUP := $(VENV)/.setup
BUILD := $(VENV)/.build
CARGO := cargo
CARGO_FLAGS := --locked
RUST_SOURCES := $(shell find rust proto -name '*.rs' -o -name Cargo.toml -o -name '*.proto') Cargo.toml Cargo.lock

SOAK_SECONDS ?= 1800
FAILOVER_SECONDS ?= 3600

.PHONY: help setup packages soak simulate mutants exhaustive build demo test verify fix test-rust test-python gate bench failover fuzz free-threaded sanitize lock clean

help:  ## list the verbs
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14

setup: $(SETUP)  ## virtual environment with the locked dependencies

packages:  ## what the tests need from the system: etcd, memcached, ip, openssl and unshare (Debian's packages)
	tools/packages.sh etcd:etcd-server memcached:memcached ip:iproute2 openssl:openssl unshare:util-linux

$(SETUP): requirements.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --require-hashes --requirement requirements.txt
	touch $@

build: $(BUILD)  ## release build of the extension, installed into the virtual environment

$(BUILD): $(SETUP) $(RUST_SOURCES) pyproject.toml
	PATH="$(CURDIR)/$(BIN):$$PATH" $(BIN)/python -m pip install --quiet --no-deps --no-build-isolation --editable .
	touch $@

demo: build  ## the main job on this machine: four pods, one proxy, real symbols, failures; writes demo-report/
	$(BIN)/hashroute demo

test: verify test-rust simulate test-python gate  ## all that must hold: verify, Rust tests, schedules, Python tests, instruction counts

verify: build  ## formatting, lints, types, layers, stubs, generated files; changes nothing
	$(CARGO) fmt --all --check
	$(CARGO) clippy $(CARGO_FLAGS) --workspace --all-targets -- -D warnings
	RUSTDOCFLAGS="-D warnings" $(CARGO) doc $(CARGO_FLAGS) --workspace --no-deps --quiet
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/python -m mypy.stubtest hashroute._hashroute --mypy-config-file pyproject.toml
	$(BIN)/lint-imports
	$(BIN)/python tools/layers.py
	$(BIN)/python tools/tidy.py

test-rust: packages  ## unit, property and socket tests of the crates
	$(CARGO) test $(CARGO_FLAGS) --workspace

test-python: build packages  ## the Python surface and real processes on loopback
	$(BIN)/python -m pytest

SIMULATOR := $(CARGO) run $(CARGO_FLAGS) --quiet --release --package hashroute-simulator --

soak: build packages  ## SOAK_SECONDS=1800 of schedules never run before, a quarter of it on etcd, then of faults on real processes, two thirds of it on etcd
	seed=$$(( $$(date +%s) * 1000000 )) && \
	$(SIMULATOR) --seeds $$seed..18446744073709551615 --seconds $$(( $(SOAK_SECONDS) * 3 / 4 )) && \
	$(SIMULATOR) --engine etcd --seeds $$seed..18446744073709551615 --seconds $$(( $(SOAK_SECONDS) / 4 ))
	for engine in embedded etcd etcd-voters; do for guard in sidecar pod; do \
		$(BIN)/python -m tests.soak --seconds $$(( $(SOAK_SECONDS) / 6 )) --engine $$engine --guard $$guard || exit 1; \
	done; done

simulate:  ## 200,000 seeded schedules of the single writer and 50,000 on etcd, or a minute of them; exits 1 if a promise breaks
	$(SIMULATOR) --seeds 0..200000 --seconds 45
	$(SIMULATOR) --engine etcd --seeds 0..50000 --seconds 15

mutants:  ## which schedule catches which planted bug of which engine; exits 1 if one survives
	$(SIMULATOR) --mutants --seeds 0..20000
	$(SIMULATOR) --engine etcd --mutants --seeds 0..20000

exhaustive:  ## every order of events of small clusters with one fault (hours, and gigabytes of memory)
	for request in nothing drain replace-voter; do $(SIMULATOR) --exhaustive --request $$request || exit 1; done

fuzz:  ## search every parser of bytes from outside, each for FUZZ_SECONDS=60 (needs a nightly compiler)
	tools/fuzz.sh $(or $(FUZZ_SECONDS),60)

free-threaded:  ## ring and router under a CPython without interpreter lock: FREE_THREADED_PYTHON=python3.14t
	tools/free_threaded.sh $(or $(FREE_THREADED_PYTHON),python3.14t)

sanitize: setup  ## the way into Ring.owner under AddressSanitizer (needs a nightly compiler and gcc's libasan)
	tools/sanitize.sh $(CURDIR)/$(BIN)/python

gate: setup  ## instruction counts of the look-up and the build against the recorded ones (needs valgrind, else says so)
	$(BIN)/python tools/instructions.py

bench: build  ## every benchmark beside its peers, then the tables of docs/benchmarks.md (needs haproxy, nginx-light, libzmq3-dev)
	mkdir -p bench-report
	$(CARGO) build $(CARGO_FLAGS) --release --package hashroute-sidecar --examples
	$(BIN)/python -m benches.ring --json bench-report/ring.json
	$(BIN)/python -m pytest benches/python --benchmark-enable --benchmark-disable-gc \
		--benchmark-timer=time.process_time --benchmark-max-time=0.2 --benchmark-json=bench-report/python.json
	$(BIN)/python -m benches.grpc.run --json bench-report/grpc.json
	$(BIN)/python -m benches.zmq.run --json bench-report/zmq.json
	$(BIN)/python -m benches.load.run --json bench-report/load.json
	$(BIN)/python -m benches.guard --json bench-report/guard.json
	$(BIN)/python -m benches.report

failover: build packages  ## FAILOVER_SECONDS=3600 of the time to a new writer, beside etcd's own leases; then its tables
	$(BIN)/python -m benches.failover --seconds $(FAILOVER_SECONDS) --json bench-report/failover.json
	$(BIN)/python -m benches.report --only failover

fix: setup  ## formatters and safe lint fixes
	$(CARGO) fmt --all
	$(BIN)/ruff check --fix --quiet . ; $(BIN)/ruff format --quiet .

lock: setup  ## refresh requirements.txt from pyproject.toml
	$(BIN)/uv pip compile --quiet --upgrade --python-version 3.11 --generate-hashes --no-emit-index-url \
		--no-header --group dev pyproject.toml --output-file requirements.txt

clean:  ## remove what the build made
	rm -rf target $(VENV) python/hashroute/*.so demo-report bench-report
