# The chores. Each makes .venv if it is not there.
PYTHON ?= python3
VENV := .venv
DATA ?= data
BIN := $(VENV)/bin
# Versions this project was tested with; pyproject.toml holds the ranges it runs with.
PIP := $(BIN)/python -m pip install --disable-pip-version-check --quiet --constraint constraints.txt

.PHONY: help docs notebooks quickstart dist test test-fast test-interop coverage mutations check benchmark results results-run clean

help:
	@echo "make quickstart  install, then train, convert, simulate and measure an MST on digits"
	@echo "make test        install with the dev extra, then run every check and every test"
	@echo "make test-fast   every test but the slow ones, without the checks"
	@echo "make test-interop  exported networks in SpikingJelly, Sinabs, Norse and snnTorch, each installed by itself"
	@echo "make coverage    every test, and the lines of src that none of them runs"
	@echo "make mutations   break each formula of tests/mutations.yaml once; tests must notice"
	@echo "make check       formatting, lint, types, imports between rooms"
	@echo "make benchmark   speed in ratios; fails when one has fallen by a third (benchmarks/ratios.json)"
	@echo "make results     write the tables, figures and csv files of README and docs from the run records in results/"
	@echo "make results-run DATA=FOLDER  make the run records again; hours, with Fashion-MNIST in FOLDER"
	@echo "make docs        the documentation as a site in site/; open site/index.html, no network needed"
	@echo "make notebooks   execute the notebooks and store their outputs"
	@echo "make dist        wheel and sdist in dist/, and the wheel alone in an environment of its own"
	@echo "make clean       remove .venv and caches"

$(VENV)/.installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	@echo "installing (PyTorch is large; this takes a few minutes)"
	$(PIP) -e .
	@touch $@

$(VENV)/.installed-dev: $(VENV)/.installed
	$(PIP) -e ".[dev]"
	@touch $@

$(VENV)/.installed-docs: $(VENV)/.installed
	$(PIP) -e ".[docs]"
	@touch $@

quickstart: $(VENV)/.installed
	$(BIN)/mst quickstart

check: $(VENV)/.installed-dev
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

# --dist loadfile: the tests of a file share the networks that they train. conftest.py orders the files.
PYTEST := OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder

test: check
	$(PYTEST)

test-fast: $(VENV)/.installed-dev
	$(PYTEST) -m "not slow"

# Each simulator lies in a folder of its own, in front of the environment: Sinabs asks for an older nir than the others,
# and none may bring another torch. Their dependencies on chips, sound and pictures are left out.
INTEROP := spikingjelly sinabs norse snntorch
spikingjelly_PACKAGES := spikingjelly==2.0.0 nirtorch==2.6 nir==1.0.8 loguru==0.7.3
sinabs_PACKAGES := sinabs==3.1.3 nirtorch==1.0 nir==1.0.4 pbr==7.1.3
norse_PACKAGES := norse==1.1.0 nirtorch==2.6 nir==1.0.8
snntorch_PACKAGES := snntorch==1.0.0 nirtorch==2.6 nir==1.0.8

$(VENV)/interop/%: $(VENV)/.installed-dev
	$(BIN)/python -m pip install --disable-pip-version-check --quiet --no-deps --upgrade --target $@ $($*_PACKAGES)

test-interop: $(INTEROP:%=$(VENV)/interop/%)
	for name in $(INTEROP); do \
	  PYTHONPATH=$(VENV)/interop/$$name OMP_NUM_THREADS=1 $(BIN)/python -m pytest -q -m interop -k $$name tests/interchange || exit 1; \
	done

coverage: $(VENV)/.installed-dev
	$(PYTEST) --cov=mst --cov-branch --cov-report=term-missing:skip-covered

mutations: $(VENV)/.installed-dev
	OMP_NUM_THREADS=1 $(BIN)/python benchmarks/mutations.py

benchmark: $(VENV)/.installed
	OMP_NUM_THREADS=1 $(BIN)/python benchmarks/ratios.py

results: $(VENV)/.installed
	$(BIN)/python results/write.py

results-run: $(VENV)/.installed
	OMP_NUM_THREADS=1 $(BIN)/python results/run.py --data-path $(DATA) --work runs/results
	$(BIN)/python results/write.py

# --strict: a warning, such as a broken link, is an error.
docs: $(VENV)/.installed-docs
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet

notebooks: $(VENV)/.installed
	OMP_NUM_THREADS=1 $(BIN)/python notebooks/run.py

# The wheel alone, outside the repository: the five lines of the README run.
dist: $(VENV)/.installed
	$(PIP) build
	rm -rf dist build
	$(BIN)/python -m build --outdir dist .
	$(PYTHON) -m venv dist/environment
	dist/environment/bin/python -m pip install --disable-pip-version-check --quiet --constraint constraints.txt dist/*.whl
	cd dist/environment && bin/python ../../benchmarks/first_lines.py ../../README.md && bin/mst --version
	rm -rf dist/environment build

clean:
	rm -rf $(VENV) build dist site .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
