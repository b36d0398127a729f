# Works on a fresh machine with Python 3.11 or later, pip and make.
# Windows without make: see README.md for the two lines of pip.

PYTHON ?= python3
VENV   ?= .venv
BIN     = $(VENV)/bin
# Test processes at once; the tests do not depend on it. They wait for disks and sockets half of the time.
JOBS   ?= 4

.PHONY: demo test lint torture bench bench-watch soak long-run clean

demo: $(VENV)/.installed
	$(BIN)/camio-import demo

test: $(VENV)/.installed-dev
	$(BIN)/python -m pytest -n $(JOBS) --dist worksteal $(ARGS)

lint: $(VENV)/.installed-dev
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

# The long versions of the tests: thousands of kills and crash images, hundreds of thousands of files (about half an hour).
# Twice as many processes: they wait even more.
torture: $(VENV)/.installed-torture
	CAMIO_IMPORT_LONG_TESTS=1 $(BIN)/python -m pytest -n $$((2 * $(JOBS))) --dist worksteal -rA --junit-xml=torture.xml $(ARGS) > torture.log || (tail -n 40 torture.log; false)
	tail -n 1 torture.log
	$(BIN)/python tests/reliability.py torture.xml

# How quick it is, against others in the same run: see benchmarks/README.md (16 GB of room; an hour or two).
bench: $(VENV)/.installed
	$(BIN)/python benchmarks/run.py $(ARGS)

# What a watch costs, and how quick it is (Linux, about ten minutes).
bench-watch: $(VENV)/.installed
	$(BIN)/python benchmarks/latency.py
	$(BIN)/python benchmarks/idle.py

# A watch under 100,000 arrivals, kills and a Box that goes away; shorter: make soak ARGS="--arrivals 2000"
soak: $(VENV)/.installed
	$(BIN)/python benchmarks/soak.py $(ARGS)

# One import of 200,000 clips into a Box with every fault (half an hour); shorter: make long-run ARGS="--clips 10000"
long-run: $(VENV)/.installed
	$(BIN)/python benchmarks/long_run.py $(ARGS)

$(VENV)/bin/pip:
	$(PYTHON) -m venv $(VENV)

$(VENV)/.installed: $(VENV)/bin/pip pyproject.toml
	$(BIN)/pip install --quiet --disable-pip-version-check -e .
	touch $@

$(VENV)/.installed-dev: $(VENV)/.installed requirements-dev.txt
	$(BIN)/pip install --quiet --disable-pip-version-check -r requirements-dev.txt
	touch $@

$(VENV)/.installed-torture: $(VENV)/.installed-dev requirements-torture.txt
	$(BIN)/pip install --quiet --disable-pip-version-check -r requirements-torture.txt
	touch $@

clean:
	rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache .hypothesis build dist
