# `make demo` and `make test` each need nothing before them but Python 3.11 and make.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
DYNAMO_VENV := .venv-dynamo
GUIDELLM_VENV := .venv-guidellm
ROUTERS_VENV := .venv-routers
CLIENT_VENVS := .venv-clients .venv-litellm .venv-aiperf
TRANSFORMERS_VENV := .venv-transformers
VLLM_VENV := .venv-vllm
VLLM_VERSION := $(shell sed -n 's/^VLLM_VERSION = "\(.*\)"/\1/p' src/understudy/__init__.py)
VLLM_REQUIREMENTS := src/understudy/verify/vllm-requirements.txt

.PHONY: demo test check format bench bench-serving bench-routing test-transformers test-clients test-router-vllm coverage-verify vllm-env verify-live record-trials fidelity clean

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

# The server's figures, beside guidellm's mock server and vLLM's own server without a GPU.
$(GUIDELLM_VENV)/.ready:
	$(PYTHON) -m venv $(GUIDELLM_VENV)
	$(GUIDELLM_VENV)/bin/python -m pip install --quiet --disable-pip-version-check torch==2.13.0 guidellm==0.8.1
	touch $@

bench-serving: $(VENV)/.ready $(GUIDELLM_VENV)/.ready $(VLLM_VENV)/.ready
	$(BIN)/python -m benchmarks.serving all --guidellm $(GUIDELLM_VENV)/bin/python --vllm $(VLLM_VENV)/bin/python

# The router's figures, beside SGLang's router and vLLM's.
$(ROUTERS_VENV)/.ready:
	$(PYTHON) -m venv $(ROUTERS_VENV)
	$(ROUTERS_VENV)/bin/python -m pip install --quiet --disable-pip-version-check sglang-router==0.3.2 vllm-router==0.1.17
	touch $@

bench-routing: $(VENV)/.ready $(ROUTERS_VENV)/.ready
	$(BIN)/python -m benchmarks.routing all --peers $(ROUTERS_VENV)
	$(BIN)/python -m benchmarks.routing_choice
	$(BIN)/python -m benchmarks.routing_index

# A real language model speaks through the server: that needs torch, which nothing else here does. Any build will do.
$(TRANSFORMERS_VENV)/.ready: pyproject.toml
	$(PYTHON) -m venv $(TRANSFORMERS_VENV)
	$(TRANSFORMERS_VENV)/bin/python -m pip install --quiet --disable-pip-version-check torch==2.13.0
	$(TRANSFORMERS_VENV)/bin/python -m pip install --quiet --disable-pip-version-check --editable '.[transformers]' hypothesis pytest pytest-timeout
	touch $@

test-transformers: $(TRANSFORMERS_VENV)/.ready
	$(TRANSFORMERS_VENV)/bin/python -m pytest tests/extras/transformers

# Programs that people use with vLLM, against our server. Their pins contradict each other, so they have several environments.
$(CLIENT_VENVS:%=%/.ready): .venv-%/.ready: tests/differential/clients/requirements/%.txt
	rm -rf .venv-$*
	$(PYTHON) -m venv .venv-$*
	.venv-$*/bin/python -m pip install --quiet --disable-pip-version-check --no-deps --requirement $<
	touch $@

test-clients: $(VENV)/.ready $(CLIENT_VENVS:%=%/.ready) $(GUIDELLM_VENV)/.ready $(VLLM_VENV)/.ready
	$(BIN)/pytest --durations=0 tests/differential/clients/suite.py

# The router before two real vLLM servers that have no GPU.
test-router-vllm: $(VENV)/.ready $(VLLM_VENV)/.ready
	$(BIN)/pytest --durations=0 tests/differential/router/suite.py

# Branches of the scheduler and the block pool that the random workloads of `verify` reach.
coverage-verify: $(VENV)/.ready
	$(BIN)/python -m tests.verify.coverage_by_workloads

# vLLM, to be compared with: its scheduler runs on a CPU. Its own pins ask for GPU libraries, which nothing here needs,
# so it is installed without them.
vllm-env: $(VLLM_VENV)/.ready

$(VLLM_VENV)/.ready: $(VLLM_REQUIREMENTS)
	$(PYTHON) -m venv $(VLLM_VENV)
	$(VLLM_VENV)/bin/python -m pip install --quiet --disable-pip-version-check --requirement $(VLLM_REQUIREMENTS)
	$(VLLM_VENV)/bin/python -m pip install --quiet --disable-pip-version-check --no-deps vllm==$(VLLM_VERSION)
	VLLM_TARGET_DEVICE=cpu VLLM_LOGGING_LEVEL=ERROR $(VLLM_VENV)/bin/python -c 'import vllm.v1.core.sched.scheduler'
	touch $@

fidelity: $(VENV)/.ready
	$(BIN)/understudy verify --output docs

verify-live: $(VENV)/.ready $(VLLM_VENV)/.ready
	$(BIN)/understudy verify --live --count 300

record-trials: $(VENV)/.ready $(VLLM_VENV)/.ready
	$(BIN)/python -m tests.verify.record_trials

clean:
	rm -rf $(VENV) $(DYNAMO_VENV) $(CLIENT_VENVS) $(GUIDELLM_VENV) $(ROUTERS_VENV) $(TRANSFORMERS_VENV) $(VLLM_VENV) understudy-demo .mypy_cache .ruff_cache .pytest_cache .hypothesis
