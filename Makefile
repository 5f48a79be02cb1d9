# `make demo` shows what the project does, `make test` that it works. Both start from nothing but
# Python 3.11 or newer: the first of them makes .venv and installs everything, pinned.
PYTHON ?= python3
BIN := .venv/bin
STAMP := .venv/.installed

.PHONY: help install demo test quick judge sorters lint slow mutants bounds docs wheel bench experiments clean
.DEFAULT_GOAL := help

help:
	@echo "make demo   simulate, ingest, train, evaluate and report: the whole way, in minutes"
	@echo "make test   lint, types and the quick tests"
	@echo "make quick ROOM=training   the quick tests of one room"
	@echo "make mutants   would the tests notice? 100 faults at random: most of an hour"
	@echo "make slow   the slow tests: kills, browser, full scale"
	@echo "make sorters  SpikeInterface, for a slow test; in .sorters"
	@echo "make judge  the benchmark's own scorers and readers, for slow tests; in .judge"
	@echo "make bounds the lowest and the newest versions that pyproject.toml admits"
	@echo "make wheel  the wheel, and the demo from it in an empty environment"
	@echo "make docs   the documentation site, into docs/_build/html"
	@echo "make bench  the benchmarks"
	@echo "make experiments   the paper's experiments, laptop size: about an hour on 2 cores"

install: $(STAMP)

$(STAMP): pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --upgrade "pip>=24"
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable ".[ingest,remote,brainsets,nwb,workflows,dev,docs]"
	touch $@

demo: install
	$(BIN)/ibl-mtm demo --out demo

lint: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

# Each process takes its part of the files in their order, so that what a file shares is made once;
# one that is done takes over what another has left. Some tests wait for processes that they start,
# so there is one more than cores. A test without end is a failure, not a standstill.
test: lint
	$(BIN)/pytest -n $$($(BIN)/python -c "import os; print(1 + (os.cpu_count() or 1))") \
	  --dist worksteal --timeout 300

# One room of the package, such as training or evaluation/behaviour.
quick: install
	$(BIN)/pytest --timeout 300 tests/$(ROOM)

# MUTANTS="--room model --number 20 --seed 3" asks for others.
mutants: install
	$(BIN)/python tools/mutants.py $(MUTANTS)

# Packages that pin versions which cannot stand beside ours, each set in an environment of its own:
# the benchmark's; and SpikeInterface, whose Zarr is not ours, for the test of its recipe.
judge sorters: %: .%/.installed

.judge/.installed: tests/helpers/judge/requirements.txt
.judge/.installed: ALONE := ibl-bwb-eval==0.1.0
.sorters/.installed: tests/helpers/judge/sorters.txt

.judge/.installed .sorters/.installed:
	$(PYTHON) -m venv $(@D)
	$(@D)/bin/python -m pip install --quiet --upgrade "pip>=24"
	$(@D)/bin/python -m pip install --quiet --requirement $<
	$(if $(ALONE),$(@D)/bin/python -m pip install --quiet --no-deps $(ALONE))
	touch $@

slow: install
	$(BIN)/pytest -m slow --timeout 1800

# Every warning is an error, and so is a reference that leads nowhere.
docs: install
	$(BIN)/sphinx-build --fail-on-warning --keep-going --nitpicky --quiet docs docs/_build/html
	@echo "docs/_build/html/index.html"

wheel: install
	rm -rf build/wheel
	$(BIN)/python -m pip wheel --quiet --no-deps --wheel-dir build/wheel/dist .
	$(PYTHON) -m venv build/wheel/venv
	build/wheel/venv/bin/python -m pip install --quiet --constraint constraints.txt \
	  "$$(ls $(CURDIR)/build/wheel/dist/*.whl)[ingest]"
	cd build/wheel && venv/bin/ibl-mtm demo --quick --out demo

# What users may have instead of our pins: the lowest versions that pyproject.toml admits, and the
# newest that there are. What depends on versions: strings, time, files, training, pages.
BOUNDED := tests/sessions tests/cache/test_plain_text.py tests/cache/test_cache_queries.py \
  tests/cache/test_cache_store.py tests/training/test_training_run.py \
  tests/evaluation/test_evaluate.py tests/report/test_report_of_parts.py
bounds:
	mkdir -p build
	$(PYTHON) tools/bounds.py > build/lowest.txt
	# Of torch the pinned build: the newest one is gigabytes where an index prefers GPUs.
	grep '^torch==' constraints.txt > build/newest.txt
	for which in lowest newest; do \
	  $(PYTHON) -m venv --clear build/$$which && \
	  build/$$which/bin/python -m pip install --quiet --upgrade "pip>=24" && \
	  build/$$which/bin/python -m pip install --quiet --constraint build/$$which.txt \
	    --editable . pytest pytest-xdist hypothesis tensorstore dask && \
	  build/$$which/bin/python -m pytest -q -n auto -o filterwarnings= $(BOUNDED) || exit 1; \
	done

bench: install
	for script in benchmarks/*.py; do $(BIN)/python $$script || exit 1; done

# Interrupted? The same command goes on where it was. RECORDING=1 adds the real recording, where
# pipelines/workflows/recording_catalog.yaml says it lies; REAL=1 puts the real sessions first, from
# the folder that pipelines/workflows/real.yaml names.
RESULTS := $(if $(REAL),$(addprefix experiments/real/results/,sessions animals-5 animals-15 animals-40))
RESULTS += $(addprefix experiments/laptop/results/,ablation generalization scaling)
RESULTS += $(if $(RECORDING),experiments/recording/results/recording)
experiments: export PATH := $(CURDIR)/$(BIN):$(PATH)
experiments: install
	for workflow in masking_ablation generalization scaling; do \
	  snakemake -s pipelines/$$workflow.smk --configfile pipelines/workflows/laptop.yaml \
	    --profile pipelines/profiles/local || exit 1; \
	done
	$(if $(RECORDING),snakemake -s pipelines/recording.smk \
	  --configfile pipelines/workflows/recording.yaml --profile pipelines/profiles/local)
	$(if $(REAL),snakemake -s pipelines/real.smk \
	  --configfile pipelines/workflows/real.yaml --profile pipelines/profiles/local)
	ibl-mtm results page $(RESULTS) --out docs/results.md

clean:
	rm -rf .venv demo docs/_build
