# Each target does all of its own set-up in .venv; a second call installs nothing.
#   make demo        fit, train and compare on MovieLens: some minutes on 2 cores
#   make test        lint, types and all tests but the slow ones
#   make test-slow   the learning checks, which take minutes
# JOBS=4 runs tests in four processes.
PYTHON ?= python3
OUT ?= runs/compare
JOBS ?= 2
BIN := .venv/bin
INSTALL := $(BIN)/python -m pip install --disable-pip-version-check -q -c constraints.txt

.PHONY: demo lint test test-slow clean

demo: .venv/.demo
	$(BIN)/audience-bench compare --log movielens --preset demo --out $(OUT)

lint: .venv/.dev
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy

# Two processes with one thread each: what a test computes is small, and threads that wait for each
# other on busy cores stall. The tests of a file share what it fits, so they stay together.
PYTEST := OMP_NUM_THREADS=1 $(BIN)/pytest -n $(JOBS) --dist loadfile

test: lint
	$(PYTEST) -m "not slow"

test-slow: .venv/.dev
	$(PYTEST) -m slow

clean:
	rm -rf .venv build *.egg-info .mypy_cache .pytest_cache .ruff_cache .hypothesis

.venv/.python:
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "audience needs Python 3.11 or newer, $(PYTHON) is " + sys.version.split()[0] + "; name another: make PYTHON=python3.12")'
	$(PYTHON) -m venv .venv
	touch $@

.venv/.demo: .venv/.python pyproject.toml constraints.txt
	$(INSTALL) -e ".[demo]"
	touch $@

.venv/.dev: .venv/.python pyproject.toml constraints.txt
	$(INSTALL) -e ".[dev]"
	touch $@ .venv/.demo
