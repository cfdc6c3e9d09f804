# Two commands: `make demo` shows everything once, `make test` proves it. Both set up .venv first, in a fresh clone too.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
STAMP  := $(VENV)/.installed
RUNS   := $(VENV)/.runs

# Test files run side by side, at most four, those that wait first (tests/conftest.py): each test has its own database,
# ports and folders.
PYTEST := $(BIN)/python -m pytest -q --numprocesses auto --maxprocesses 4 --dist loadfile --no-loadscope-reorder

.DEFAULT_GOAL := help
.PHONY: help setup demo demo-text test test-all lint clean

help:
	@echo "make demo      profile this machine, train a supernet, deliver three networks (5 to 10 min with set-up; under a minute when run again)"
	@echo "make demo-text the same for networks that write: train transformers that pronounce words, deliver three (5 to 20 min with set-up; less when run again)"
	@echo "make test      all tests but the long ones"
	@echo "make test-all  all tests"
	@echo "make lint      ruff, formatting, mypy, import contracts"
	@echo "make setup     the virtual environment alone, with everything that the tests need"

setup: $(STAMP)

# Each stamp is newer than what it was made from, so a second call does nothing. What the demo needs is a part of
# what the tests need: without browsers, second runtimes and checkers it is there in less time.
define install
	@$(PYTHON) -c 'import sys; v = sys.version_info[:2]; \
		sys.exit(None if (3, 11) <= v < (3, 14) else "bespoke needs Python 3.11, 3.12 or 3.13: make PYTHON=python3.12 ...")'
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[$(1)]'
endef

$(STAMP): pyproject.toml constraints.txt
	$(call install,test)
	@touch $(RUNS) $@

$(RUNS): pyproject.toml constraints.txt
	$(call install,worker)
	@touch $@

demo: $(RUNS)
	$(BIN)/bespoke demo --data-dir demo

demo-text: $(RUNS)
	$(BIN)/bespoke demo --text --data-dir demo-text

test: setup
	$(PYTEST) -m "not slow"

test-all: setup
	$(PYTEST)

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

clean:
	rm -rf $(VENV) demo demo-text .pytest_cache .mypy_cache .ruff_cache .hypothesis
