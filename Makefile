# Each target works where there is Python 3.11 and nothing else: it makes .venv first, and again when the pins change.
PYTHON ?= python3.11
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.made

.PHONY: setup demo test check check-deep bench format clean

demo: $(STAMP)
	$(BIN)/seqscope demo --out demo --force

test: $(STAMP)
	$(BIN)/python -m pytest

check: $(STAMP)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

# Thousands of damaged files of every kind, and what is too slow for every run.
check-deep: $(STAMP)
	SEQSCOPE_DEEP=1 $(BIN)/python -m pytest tests/files

bench: $(STAMP)
	$(BIN)/python -m pip install --quiet --no-deps -c constraints.txt -r benchmarks/peers.txt
	$(BIN)/python benchmarks/activations.py
	$(BIN)/python benchmarks/states.py
	$(BIN)/python benchmarks/attribution.py
	$(BIN)/python benchmarks/units.py
	$(BIN)/python benchmarks/heads.py
	$(BIN)/python benchmarks/onnx.py

setup: $(STAMP)

format: $(STAMP)
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

clean:
	rm -rf $(VENV) demo

$(STAMP): pyproject.toml constraints.txt tests/real/packages.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade -c constraints.txt pip
	$(BIN)/python -m pip install --quiet -c constraints.txt -e ".[all,dev]"
	$(BIN)/python -m pip install --quiet --no-deps -c constraints.txt -r tests/real/packages.txt
	touch $(STAMP)
