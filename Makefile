# Works on a fresh machine with Python 3.11 or later, pip and make.
# Windows without make: see README.md for the two lines of pip.

PYTHON ?= python3
VENV   ?= .venv
BIN     = $(VENV)/bin
# Test processes at once; the tests do not depend on it. They wait for disks and sockets half of the time.
JOBS   ?= 4

.PHONY: demo test lint torture bench soak clean

demo: $(VENV)/.installed
	$(BIN)/camio-import demo

test: $(VENV)/.installed-dev
	$(BIN)/python -m pytest -n $(JOBS) $(ARGS)

lint: $(VENV)/.installed-dev
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

# The long versions of the tests: a million files, many kills.
torture: $(VENV)/.installed-dev
	CAMIO_IMPORT_LONG_TESTS=1 $(BIN)/python -m pytest -n $(JOBS) $(ARGS)

# What a watch costs, and how quick it is: see benchmarks/README.md (Linux, about ten minutes).
bench: $(VENV)/.installed
	$(BIN)/python benchmarks/latency.py
	$(BIN)/python benchmarks/idle.py

# A watch under 100,000 arrivals, kills and a Box that goes away; shorter: make soak ARGS="--arrivals 2000"
soak: $(VENV)/.installed
	$(BIN)/python benchmarks/soak.py $(ARGS)

$(VENV)/bin/pip:
	$(PYTHON) -m venv $(VENV)

$(VENV)/.installed: $(VENV)/bin/pip pyproject.toml
	$(BIN)/pip install --quiet --disable-pip-version-check -e .
	touch $@

$(VENV)/.installed-dev: $(VENV)/.installed requirements-dev.txt
	$(BIN)/pip install --quiet --disable-pip-version-check -r requirements-dev.txt
	touch $@

clean:
	rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache .hypothesis build dist
