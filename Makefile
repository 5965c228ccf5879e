# `make` says what there is. Everything happens in a virtual environment that the first call makes.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:

VENV ?= .venv
JOBS ?= 2
# With `make PYTHON=...` that one is taken or refused; without it the first that is new enough.
PYTHONS := $(if $(PYTHON),$(PYTHON),python3 python3.13 python3.12 python3.11 python)
BIN := $(VENV)/bin
SOURCES := $(wildcard sparsetrain experiments configs benchmarks)
# The package index is asked again when this is set, so that `test-newest` stays true to its name.
UPGRADE ?=

.PHONY: help demo test test-newest check lint types format bench docs clean always

help: ## Shows this list.
	@grep -E '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /  make \1	/' | expand -t 22

demo: $(VENV)/.installed-demo ## Trains dense, SBP and MSBP on small digits; report in runs/demo.
	$(BIN)/python -m experiments.demo --workdir=runs/demo

test: $(VENV)/.installed-test ## Lints, checks types, runs all tests, doctests, README snippets and notebooks.
	@$(MAKE) --no-print-directory check UPGRADE=

test-newest: ## The same with the newest packages that PYTHON=... takes, in .venv-newest.
	@$(MAKE) --no-print-directory test VENV=.venv-newest UPGRADE=--upgrade

check: lint types
	$(BIN)/python -m pytest -n $(JOBS) -q

lint: $(VENV)/.installed-test ## Style and likely mistakes.
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

format: $(VENV)/.installed-test ## Formats the code and mends what can be mended by itself.
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

types: $(VENV)/.installed-test ## Types.
	$(BIN)/mypy $(SOURCES)

bench: $(VENV)/.installed-demo ## Our backward pass against the dense one, on this machine.
	$(BIN)/python -m benchmarks.backward

docs: $(VENV)/.installed-docs ## Builds the API reference in build/docs; a link that leads nowhere is an error.
	$(BIN)/mkdocs build --strict --quiet
	@echo "build/docs/index.html"

clean: ## Removes what make and the tools have built; runs/ stays.
	rm -rf .venv .venv-newest .cache build dist *.egg-info .mypy_cache .pytest_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# An unfinished or moved environment is made anew; so is one of another Python than the one asked for.
$(VENV)/.made: $(if $(UPGRADE),always)
	@python=; for candidate in $(PYTHONS); do \
	  if "$$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then python=$$candidate; break; fi; \
	done; \
	if [ -z "$$python" ]; then \
	  echo "No Python >= 3.11 among: $(PYTHONS). Install one, or name it:  make PYTHON=/path/to/python3" >&2; exit 1; \
	fi; \
	version=$$("$$python" -c 'import sys; print(sys.version)'); \
	if [ "$$("$(BIN)/python" -c 'import sys; print(sys.version)' 2>/dev/null)" != "$$version" ]; then \
	  echo "Making $(VENV) with $$python: $$version"; \
	  "$$python" -m venv --clear "$(VENV)"; \
	fi; \
	[ -e $@ ] || touch $@

$(VENV)/.installed-demo: $(VENV)/.made setup.py
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[train]'
	@touch $@

$(VENV)/.installed-test: $(VENV)/.made setup.py $(if $(UPGRADE),always)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check $(UPGRADE) $(if $(UPGRADE),--upgrade-strategy eager) \
	  -e '.[train,tfds,tensorboard,translation,detection,test]'
	@touch $@

$(VENV)/.installed-docs: $(VENV)/.made setup.py
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[docs]'
	@touch $@

always:
