# Everything that one does here, by `make TARGET`. Nothing is needed but Python >= 3.10, Java >= 17
# and make: `setup`, on which the others rest, makes .venv/ and says in one line what is missing.
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
.PHONY: help setup demo test test-fast lint fmt bench bench-quick faults check dist clean

PY := .venv/bin/python
# Models come from packages and folders, never from a hub.
export HF_HUB_OFFLINE := 1
# The workers of Spark run the Python of .venv too.
export PYSPARK_PYTHON := $(CURDIR)/$(PY)
ARGS ?=
# Half of the time of a test goes into waiting: for a JVM, a time limit, a process that was killed.
TESTERS ?= 3

help: ## List the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup: ## Make .venv/ with kvspark and all that its tests need; nothing that is there is installed again
	@bash .ci/setup

demo: setup ## Run three nights of a real scoring job (ARGS="--nights-dir DIR --out DIR")
	@$(PY) -m kvspark.cli demo $(ARGS)

test: setup lint ## Run lint and every test, in as many processes as TESTERS says
	@$(PY) -m pytest -n $(TESTERS) --dist loadfile --no-loadscope-reorder $(ARGS)

test-fast: setup ## Run the tests that need no JVM, no Redis and no patience
	@$(PY) -m pytest -m "not spark and not redis and not slow and not gpu" $(ARGS)

lint: setup ## Check format, style, types and layers, and change nothing
	@$(PY) -m ruff format --check --quiet
	@$(PY) -m ruff check --quiet
	@$(PY) -m mypy
	@.venv/bin/lint-imports --no-logo

fmt: setup ## Format, and fix what can be fixed
	@$(PY) -m ruff check --fix --quiet || true
	@$(PY) -m ruff format

bench: setup ## Compare with what else there is, about an hour (ARGS="tabular texts": parts); build/bench.md
	@bash .ci/setup bench
	@$(PY) -m tests.bench $(ARGS)

bench-quick: setup ## The same in minutes: small tables, one round, only what setup has installed
	@$(PY) -m tests.bench --quick $(ARGS)

faults: setup ## Make everything fail that can, and print what came of it: row, fired, output, seconds over
	@$(PY) -m tests.faults $(ARGS)

check: test dist ## Run what CI runs, and build the distribution

dist: setup ## Build the wheel, and the same as dist/kvspark.zip for spark-submit --py-files
	@rm -rf dist
	@$(PY) -m hatchling build -d dist
	@cp dist/kvspark-*.whl dist/kvspark.zip

clean: ## Remove what was built and cached, but not .venv/
	@rm -rf build dist spark-warehouse metastore_db derby.log .mypy_cache .ruff_cache .pytest_cache \
	  .hypothesis .import_linter_cache
	@find kvspark jobs tests conf notebooks -name __pycache__ -type d -prune -exec rm -rf {} +
