# `make` prints what there is. Every target sets up what it needs in .venv first, so each works from a bare clone
# with nothing but make and a Python of at least 3.11.

VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip -qq --disable-pip-version-check
RUN := $(VENV)/run.stamp
DEV := $(VENV)/dev.stamp
PEER := .venv-opendp

# Folders that hold our Python; what else is tracked is data.
SOURCES := engine privacy federation bench
CHECKED := $(SOURCES) tests tools docs/conf.py

# Tests run on all cores, four at most: each worker compiles nothing, but holds its own data.
WORKERS := -n auto --maxprocesses 4

# What the pure-Python run must cover (lines and branches, per cent). Raise it when it holds more; never lower it.
COVERAGE_FLOOR := 93

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.NOTPARALLEL:
.PHONY: help setup demo federation-deployed test check lint types layers test-nojit test-slow mutants fuzz crash-storm soak wheel-test bench peers docs commands notebook lock format clean

help: ## print this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-20s %s\n", $$1, $$2 }' Makefile
	@printf '\nPYTHON=python3.12 chooses the interpreter; PYTEST_ARGS="-k tags -x" is handed to pytest.\n'

# --- set-up ---------------------------------------------------------------------------------------------------------

$(BIN)/python:
	@python=$$(PYTHON='$(PYTHON)' sh tools/find_python.sh) && "$$python" -m venv $(VENV)

# The packages that Dayfly runs on, Dayfly itself (editable), and its kernels compiled once.
$(RUN): pyproject.toml requirements/run.lock | $(BIN)/python
	@$(BIN)/python -m pip --version >/dev/null 2>&1 || $(BIN)/python -m ensurepip >/dev/null  # uv makes a .venv without pip
	$(PIP) install --require-hashes -r requirements/run.lock
	$(PIP) install --no-deps --no-build-isolation -e .
	@echo "compiling the kernels, once, so that later starts need not"
	@$(BIN)/python -m dayfly.engine.warmup
	@touch $@

# The tools of those who change it.
$(DEV): requirements/dev.lock $(RUN)
	$(PIP) install --require-hashes -r requirements/dev.lock
	@touch $@

setup: $(DEV) ## prepare .venv with everything that the other targets use

# --- what most people want ------------------------------------------------------------------------------------------

demo: $(RUN) ## run the main job on generated customers: events in, a fragment out, opened, explained, destroyed
	$(BIN)/dayfly demo $(DEMO_ARGS)

test: $(DEV) ## run the tests, without the slow ones
	$(BIN)/pytest -m "not slow" $(WORKERS) $(PYTEST_ARGS)

check: lint types layers test ## lint, types, import layers and tests: what must hold before a change goes in

# --- single checks --------------------------------------------------------------------------------------------------

lint: $(DEV) ## ruff: rules and format
	$(BIN)/ruff check $(CHECKED)
	$(BIN)/ruff format --check $(CHECKED)

format: $(DEV) ## ruff: repair what can be repaired, and format
	$(BIN)/ruff check --fix $(CHECKED)
	$(BIN)/ruff format $(CHECKED)

types: $(DEV) ## mypy (strict) and basedpyright
	$(BIN)/mypy
	$(BIN)/basedpyright

layers: $(DEV) ## which portion may import which
	$(BIN)/lint-imports --no-logo

NOJIT_TESTS := tests/privacy tests/engine/tags tests/engine/policy tests/engine/lineage tests/engine/intake tests/engine/runtime tests/engine/shard tests/federation/secagg tests/federation/vertical/test_kernels.py

test-nojit: $(DEV) ## the tests with numba's JIT off, and the coverage that only shows there
	NUMBA_DISABLE_JIT=1 HYPOTHESIS_PROFILE=brief $(BIN)/pytest -m "not slow" --cov --cov-report=term --cov-fail-under=$(COVERAGE_FLOOR) $(WORKERS) $(NOJIT_TESTS) $(PYTEST_ARGS)

test-slow: $(DEV) ## the slow tests; DAYFLY_TEST_BUDGET_SECONDS=600 stops starting new ones after ten minutes
	$(BIN)/pytest -m slow $(PYTEST_ARGS)

fuzz: $(DEV) ## every Hypothesis test with 5,000 examples instead of 50
	HYPOTHESIS_PROFILE=nightly $(BIN)/pytest -m hypothesis $(PYTEST_ARGS)

crash-storm: $(DEV) ## kill -9 a busy store RUNS=1000 times at random instants, and compare it with everything that it had said
	$(BIN)/python -m tests.engine.durable.storm --runs $(or $(RUNS),1000)

federation-deployed: $(DEV) ## a SuperLink, three SuperNodes, TLS and kill -9 on this machine; stops starting tests after BUDGET=900 seconds
	DAYFLY_TEST_BUDGET_SECONDS=$(or $(BUDGET),900) $(BIN)/pytest -m slow tests/federation/flower $(PYTEST_ARGS)

mutants: $(DEV) ## make historical mistakes of differential privacy in our code, and count those that a check notices
	$(BIN)/python -m tests.privacy.mutants $(MUTANTS_ARGS)

soak: $(DEV) ## a steady load with churn for MINUTES=30, memory watched, judged by the oracle at the end
	$(BIN)/python -m tests.engine.durable.soak --minutes $(or $(MINUTES),30)

wheel-test: $(DEV) ## build the wheel, install it into a new venv, and run the tests against it
	BIN=$(BIN) sh tools/wheel_test.sh $(WORKERS) $(PYTEST_ARGS)

# --- figures, pages, notebooks --------------------------------------------------------------------------------------

bench: $(DEV) ## measure everything against its bar; BENCH_ARGS="realtime --quick" for less
	$(BIN)/python -m dayfly.bench $(or $(BENCH_ARGS),all)

peers: $(PEER)/bin/python ## an environment beside .venv for a peer that pins other versions: OpenDP on Polars (about 900 MB)

$(PEER)/bin/python: requirements/opendp_peer.lock
	@python=$$(PYTHON='$(PYTHON)' sh tools/find_python.sh) && "$$python" -m venv $(PEER)
	$(PEER)/bin/python -m pip -qq --disable-pip-version-check install --require-hashes -r requirements/opendp_peer.lock
	@touch $@

commands: $(DEV) ## write docs/commands.md from the command line's own help
	$(BIN)/typer dayfly.engine.cli utils docs --name dayfly --title "The command line" --output docs/commands.md

docs: $(DEV) ## build the pages into docs/_build, every warning an error
	$(BIN)/sphinx-build -n -W --keep-going -b html docs docs/_build/html

notebook: $(DEV) ## run every notebook from top to bottom
	$(BIN)/pytest tests/project/test_notebooks.py -m "" $(PYTEST_ARGS)

# --- housekeeping ---------------------------------------------------------------------------------------------------

LOCK := uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-header --no-annotate pyproject.toml

lock: ## resolve requirements/*.lock again (needs uv); UPGRADE=1 takes newer versions
	@command -v uv >/dev/null || { echo "uv must be on PATH to resolve the locks; install it with: python3 -m pip install uv" >&2; exit 1; }
	$(LOCK) $(if $(UPGRADE),--upgrade) --group test --group lint --group docs --group build --extra plots --extra federation -o requirements/dev.lock
	$(LOCK) $(if $(UPGRADE),--upgrade) --group editable --constraint requirements/dev.lock -o requirements/run.lock
	echo 'opendp[polars]==0.16.0' | uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-header --no-annotate - $(if $(UPGRADE),--upgrade) -o requirements/opendp_peer.lock

clean: ## remove .venv and everything that was built or cached in this folder
	rm -rf $(VENV) $(PEER) build dist docs/_build demo-out .coverage .coverage.* .hypothesis .pytest_cache .mypy_cache .ruff_cache .import_linter_cache
	find $(SOURCES) tests tools -name __pycache__ -type d -prune -exec rm -rf {} +
