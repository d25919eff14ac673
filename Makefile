# Each target works where there is Python 3.11 and nothing else: it makes .venv first, and again when the pins change.
PYTHON ?= python3.11
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.made
# Tests that wait: for disks, for processes of their own, for a browser.
APART := tests/recording tests/files tests/explorer tests/report

.PHONY: setup demo test test-most test-apart check check-deep bench format clean

demo: $(STAMP)
	$(BIN)/seqscope demo --out demo --force

# In two processes side by side: much of what the second does is to wait.
test: $(STAMP)
	$(MAKE) --no-print-directory -j2 test-most test-apart

test-most: $(STAMP)
	$(BIN)/python -m pytest tests src $(APART:%=--ignore=%)

test-apart: $(STAMP)
	$(BIN)/python -m pytest $(APART)

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
	$(BIN)/python benchmarks/recording.py
	$(BIN)/python benchmarks/explorer.py

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
