# Each target works where there is Python 3.11 and nothing else: it makes .venv first, and again when the pins change.
PYTHON ?= python3.11
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.made

.PHONY: setup demo test test-most test-disk check check-deep bench format clean

demo: $(STAMP)
	$(BIN)/seqscope demo --out demo --force

# In two processes side by side: much of what the second does is to wait for processes of its own.
test: $(STAMP)
	$(MAKE) --no-print-directory -j2 test-most test-disk

test-most: $(STAMP)
	$(BIN)/python -m pytest tests src --ignore=tests/recording --ignore=tests/files

test-disk: $(STAMP)
	$(BIN)/python -m pytest tests/recording tests/files

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
