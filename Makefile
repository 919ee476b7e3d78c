# One environment in .venv, made from pyproject.toml and constraints.txt. `make` alone lists
# what can be done. PYTHON=... chooses the interpreter; PIP_FIND_LINKS and pip's own settings
# are honoured.

SHELL := bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
MAKEFLAGS += --no-print-directory

VENV := .venv
BIN := $(VENV)/bin
PYTHON ?= $(shell for python in python3.11 python3.12 python3.13 python3 python; do \
	"$$python" -c 'import sys, venv; sys.exit(sys.version_info < (3, 11))' 2>/dev/null \
	&& { echo "$$python"; break; }; done)
PIP := $(BIN)/python -m pip --disable-pip-version-check
TORCH := $(shell sed -n 's/^torch==//p' constraints.txt)

.PHONY: help
help: ## list the targets
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / {printf "  make %-17s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

# -- the environment -------------------------------------------------------------------

$(BIN)/python:
	@[ -n "$(PYTHON)" ] || { echo "Python 3.11 or newer is needed; name it: make PYTHON=/path/to/python3.11" >&2; exit 2; }
	"$(PYTHON)" -m venv $(VENV)

# torch comes first: on Linux without a GPU the CPU build (some 200 MB instead of some 3 GB),
# where pip can find one; everywhere else, and where it cannot, the ordinary package.
$(VENV)/.torch: constraints.txt | $(BIN)/python
	@$(BIN)/python -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
	|| { echo "$(VENV) holds a Python older than 3.11; remove the folder and run make again" >&2; exit 2; }
	@if $(PIP) show torch 2>/dev/null | grep -q '^Version: $(TORCH)'; then :; \
	elif [ "$$(uname -s)" = Linux ] && ! command -v nvidia-smi >/dev/null && { \
		echo "Installing a CPU build of torch $(TORCH) (200 MB, under a minute), where there is one"; \
		$(PIP) install --quiet --constraint constraints.txt 'torch==$(TORCH)+cpu' 2>/dev/null; }; then :; \
	else \
		echo "Installing torch $(TORCH): 100 MB on macOS, up to 3 GB and 5 minutes on Linux"; \
		$(PIP) install --quiet --constraint constraints.txt 'torch==$(TORCH)'; \
	fi
	@touch $@

$(VENV)/.ready: pyproject.toml constraints.txt $(VENV)/.torch
	@echo "Installing tunefleet with its train and serve extras (400 MB, 1 to 3 minutes the first time)"
	@$(PIP) install --quiet --constraint constraints.txt --editable '.[train,serve]'
	@touch $@

$(VENV)/.tools: $(VENV)/.ready
	@echo "Installing the trackers, ONNX, the cluster's client and the tools that check it all (400 MB, about a minute)"
	@$(PIP) install --quiet --constraint constraints.txt --editable '.[train,serve,control,tracking,export,dev]'
	@touch $@

# US dollars per worker and hour: what half of a two-core machine costs to rent.
PRICE ?= 0.05

# -- what it is for --------------------------------------------------------------------

.PHONY: quickstart
quickstart: $(VENV)/.ready ## fine-tune a real model on real reviews, look at the report, ask it something
	$(BIN)/python jobs/quickstart/fetch.py
	$(BIN)/tunefleet run jobs/quickstart/job.yaml --price-per-hour $(PRICE)
	$(BIN)/python jobs/quickstart/ask.py

# Tests start many small processes: one thread each, no hub, and a malloc that keeps the large
# blocks which every training step frees and asks for again.
QUIET := OMP_NUM_THREADS=1 TOKENIZERS_PARALLELISM=false HF_HUB_OFFLINE=1 RAY_USAGE_STATS_ENABLED=0 \
	MALLOC_MMAP_THRESHOLD_=1073741824 MALLOC_TRIM_THRESHOLD_=4294967296

# Three tests at a time: most wait for processes. Those that start Ray need a few GB each: JOBS=2
# where memory is short.
JOBS ?= 3

LINT := $(BIN)/ruff check . && $(BIN)/ruff format --check . && $(BIN)/lint-imports && $(BIN)/mypy

# Tests wait for processes often enough to leave a core to the tools, which are told at the end.
# The long files come first (folders are taken by name), so that all workers end together.
.PHONY: test
test: $(VENV)/.tools ## everything that must hold: style, types, layers, tests with coverage
	$(BIN)/python jobs/quickstart/fetch.py
	@echo "Style, types and layers are checked beside the tests and told after them"
	@{ nice sh -c '$(LINT)'; } >$(VENV)/lint.log 2>&1 & lint=$$!; tests=0; tools=0; \
	$(QUIET) $(BIN)/python -m pytest --cov -n $(JOBS) --dist loadfile --no-loadscope-reorder \
		--durations 15 --ignore tests/e2e --ignore tests/cluster || tests=$$?; \
	wait $$lint || tools=$$?; \
	cat $(VENV)/lint.log; \
	[ $$tools -eq 0 ] || echo "Style, types or layers are broken (above); again: make lint" >&2; \
	exit $$((tests ? tests : tools))

.PHONY: test-e2e
test-e2e: $(VENV)/.tools ## whole jobs on real servers, from data to answers (.ci/run runs it after `make test`)
	$(QUIET) $(BIN)/python -m pytest tests/e2e --ignore tests/e2e/node

# -- a cluster of real servers (docs/testbed.md) ---------------------------------------

# TUNEFLEET_BED names another bed than k8s; with KUBECONFIG set, tests use that cluster.
BED := $(BIN)/python -m tests.testbed

.PHONY: cluster-up
cluster-up: $(VENV)/.tools ## start Kubernetes, a node and KubeRay here, with our image on it (Linux, root)
	$(BED) up node
	$(BED) operator
	$(BED) image

.PHONY: cluster-down
cluster-down: $(VENV)/.tools ## end and remove all that cluster-up started
	$(BED) down

.PHONY: cluster-demo
cluster-demo: $(VENV)/.tools ## one job from kubectl apply to answers, on servers that are gone afterwards
	$(BIN)/python jobs/quickstart/fetch.py
	$(BIN)/python -m tests.testbed.demo --install $(ARGS)

# Programs are built and installed, and images made, outside what tests wait for.
.PHONY: testbed
testbed: $(VENV)/.tools ## build the servers and our image for a cluster on this machine (Linux, root; once)
	$(BED) build node --install
	$(BED) image --only-build

# Tests of a cluster wait more than they work: the node's run beside the controller's, and those on
# two beds beside each other. On one cluster of the user's own they run one after the other.
.PHONY: test-cluster
test-cluster: $(VENV)/.tools ## the controller on real API servers, our image on a node, with the real KubeRay operator
	@[ -n "$${KUBECONFIG:-}" ] || $(MAKE) testbed
	@$(MAKE) $(if $(KUBECONFIG),,--jobs 2 --keep-going) test-node test-controller

.PHONY: test-controller
test-controller: $(VENV)/.tools ## the first half of it: the controller alone, its pods played
	$(QUIET) $(BIN)/python -m pytest --durations 15 $(if $(KUBECONFIG),,-n 2 --dist loadfile \
		--no-loadscope-reorder) tests/cluster $(ARGS)

# What it says is kept to its end, so that two progress bars are not written over each other.
.PHONY: test-node
test-node: $(VENV)/.tools ## the second half of it: real pods of our image
	@echo "The tests of a node run beside the others and are told at their end ($(VENV)/node.log)"
	@failed=0; $(QUIET) $(BIN)/python -m pytest --durations 5 tests/e2e/node $(ARGS) \
		>$(VENV)/node.log 2>&1 || failed=$$?; cat $(VENV)/node.log; exit $$failed

.PHONY: test-cluster-full
test-cluster-full: ## the same, with the controller killed around every write of four lives; an hour
	$(MAKE) test-cluster ARGS=--full

.PHONY: test-faults
test-faults: $(VENV)/.tools ## kill -9 at every storage write of a run, on disk and S3; half an hour (ARGS=--quick)
	$(QUIET) $(BIN)/python -m tests.faults $(ARGS)

.PHONY: lint
lint: $(VENV)/.tools ## style, types and layers only
	$(LINT)

.PHONY: format
format: $(VENV)/.tools ## let ruff write the style
	$(BIN)/ruff check --fix-only .
	$(BIN)/ruff format .

.PHONY: docs
docs: $(VENV)/.ready ## write the reference pages from the models
	$(BIN)/python -m docs.reference.generate

.PHONY: benchmark
benchmark: $(VENV)/.tools ## measure beside what people use today (ARGS=--quick for a first look)
	$(BIN)/python jobs/quickstart/fetch.py
	HF_HUB_OFFLINE=1 $(BIN)/python -m benchmarks $(ARGS)

.PHONY: clean
clean: ## remove the environment, caches and the quickstart's files (runs are kept)
	rm -rf $(VENV) .quickstart .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache .coverage build dist
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
