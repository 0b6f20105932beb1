# `make demo` and `make test` each need nothing before them but Python 3.11 and make.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
DYNAMO_VENV := .venv-dynamo

.PHONY: demo test check format bench clean

$(VENV)/.ready: pyproject.toml
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "understudy needs Python 3.11 or later")'
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[dev]'
	touch $@

demo: $(VENV)/.ready
	rm -rf understudy-demo
	$(BIN)/understudy demo --output understudy-demo

test: check
	$(BIN)/pytest --numprocesses auto

check: $(VENV)/.ready
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: $(VENV)/.ready
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

# NVIDIA Dynamo, which the benchmark measures against, gets an environment of its own.
$(DYNAMO_VENV)/.ready:
	$(PYTHON) -m venv $(DYNAMO_VENV)
	$(DYNAMO_VENV)/bin/python -m pip install --quiet --disable-pip-version-check ai-dynamo-runtime==1.6.1
	touch $@

bench: $(VENV)/.ready $(DYNAMO_VENV)/.ready
	$(BIN)/python benchmarks/replay.py --dynamo $(DYNAMO_VENV)/bin/python

clean:
	rm -rf $(VENV) $(DYNAMO_VENV) understudy-demo .mypy_cache .ruff_cache .pytest_cache .hypothesis
