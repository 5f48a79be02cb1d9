# `make demo` shows what the project does, `make test` that it works. Both start from nothing but
# Python 3.11 or newer: the first of them makes .venv and installs everything, pinned.
PYTHON ?= python3
BIN := .venv/bin
STAMP := .venv/.installed

.PHONY: help install demo test lint slow docs bench clean
.DEFAULT_GOAL := help

help:
	@echo "make demo   simulate, ingest, train, evaluate and report: the whole way, in minutes"
	@echo "make test   lint, types and the quick tests"
	@echo "make slow   the slow tests: kills, browser, full scale"
	@echo "make docs   the documentation site, into docs/_build/html"
	@echo "make bench  the benchmarks"

install: $(STAMP)

$(STAMP): pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --upgrade "pip>=24"
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable ".[ingest,remote,dev,docs]"
	touch $@

demo: install
	$(BIN)/ibl-mtm demo --out demo

lint: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

test: lint
	$(BIN)/pytest -n auto

slow: install
	$(BIN)/pytest -m slow

# Every warning is an error, and so is a reference that leads nowhere.
docs: install
	$(BIN)/sphinx-build --fail-on-warning --keep-going --nitpicky --quiet docs docs/_build/html
	@echo "docs/_build/html/index.html"

bench: install
	for script in benchmarks/*.py; do $(BIN)/python $$script || exit 1; done

clean:
	rm -rf .venv demo docs/_build
