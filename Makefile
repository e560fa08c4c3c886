# Every target sets up what it needs on a machine that has only Python 3.11-3.13 and make.
#   make train                      # MAML on sinusoids: install, train, test, pictures; no download of data
#   make train VENV=/path/to/venv   # use an environment of your own
#   make gpu-check GPU_CHECK="--only MAML --minutes 2"
#   make bench BENCH="--only sine --threads 1"
.DEFAULT_GOAL := help
.PHONY: help install train test test-fast test-slow check docs bench gpu-check clean
.DELETE_ON_ERROR:

VENV ?= .venv
RUN_DIR ?= runs/sinusoid-maml
DEVICE ?= cuda
BIN := $(VENV)/bin
STAMPS := $(VENV)/.metalit
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check

# Small networks gain nothing from threads, and lose much where other processes want the same cores.
train test test-fast test-slow docs gpu-check: export OMP_NUM_THREADS ?= 1

help:  ## list the targets
	@grep -E '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /\1\t/' | expand -t 12

install: $(STAMPS)/core  ## make .venv with metalit and learn2learn in it

train: $(STAMPS)/core  ## train and test MAML on sinusoids: a table, curves and the picture of an adaptation
	$(BIN)/python train.py fit --config configs/sinusoid/maml.yaml --run_dir $(RUN_DIR)
	$(BIN)/python train.py test --config configs/sinusoid/maml.yaml --run_dir $(RUN_DIR) --ckpt_path best \
		--model.inner_steps 10

test: $(STAMPS)/test  ## the test suite on all cores, without the slow tests
	$(BIN)/python -m pytest -q --numprocesses auto --dist worksteal

test-fast: $(STAMPS)/test  ## the mathematics alone: no command line, compiler or training
	$(BIN)/python -m pytest -q -m "not (slow or service or compile or learns)" --numprocesses auto --dist worksteal

test-slow: $(STAMPS)/test  ## the tests that `make test` leaves out
	$(BIN)/python -m pytest -q -m slow --numprocesses auto --dist worksteal

check: $(STAMPS)/dev  ## lint, format, types and the Dockerfile
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/hadolint docker/Dockerfile

docs: $(STAMPS)/test  ## check the pages: links, commands and the code in them
	$(BIN)/python -m pytest -q -m "slow or not slow" tests/test_docs.py

bench: $(STAMPS)/core  ## speed and memory of training steps against other libraries, 30 minutes; BENCH=--smoke: a trial
	$(BIN)/python -m benchmarks.speed $(BENCH)

gpu-check: $(STAMPS)/core  ## compare a GPU with the CPU and with learn2learn, 8 minutes; DEVICE=cpu: dry run
	$(BIN)/python -m benchmarks.gpu_check --device $(DEVICE) $(GPU_CHECK)

clean:  ## remove the environment and the caches; runs/ and data/ stay
	rm -rf $(VENV) build dist .mypy_cache .ruff_cache .pytest_cache
	find src tests benchmarks docs -name __pycache__ -type d -prune -exec rm -rf {} +

# The first Python here that runs and is recent enough; a name on the PATH may be a shim that does not run.
$(BIN)/python:
	@for python in python3 python3.13 python3.12 python3.11 python; do \
		if $$python -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] < (3, 14))' 2>/dev/null; then \
			echo "$$($$python --version) in $(VENV)"; \
			$$python -m venv $(VENV) && exit 0; \
			echo "$$python cannot make virtual environments: install its venv module (Debian: python3-venv)" >&2; \
			rm -rf $(VENV); exit 1; \
		fi; \
	done; \
	echo "no Python 3.11, 3.12 or 3.13 found: install one, or put it on the PATH" >&2; exit 1

# pip 23.1 is the first that reads a build setting from a requirements file. learn2learn is optional: without a C
# compiler metalit works, and the tests against learn2learn are skipped.
$(STAMPS)/core: pyproject.toml requirements/l2l.txt | $(BIN)/python
	@echo "installing metalit: a few minutes the first time"
	$(PIP) --upgrade 'pip>=23.1'
	$(PIP) --editable .
	@$(PIP) tqdm requests scipy && $(PIP) --no-deps --requirement requirements/l2l.txt || \
		echo "learn2learn was not installed (a C compiler is needed to build it): going on without it" >&2
	@mkdir -p $(STAMPS) && touch $@

$(STAMPS)/test $(STAMPS)/dev: $(STAMPS)/%: $(STAMPS)/core
	$(PIP) --editable '.[$*]'
	@touch $@
