# Every target works in a fresh clone. They share one virtual environment: `setup` gives it the core alone, and the
# targets for contributors add the extras. Stamp files in it make repeated calls quick.
PYTHON ?= python3
VENV ?= .venv
TEST_EXTRAS := audio,video,train,zoo,bench,ray,dev
# Two processes of one thread each; xdist takes their number.
PYTEST_ARGS ?= -q -n 2 --dist loadfile
BENCH_ARGS ?=
GOLDEN_ARGS ?=
GPU_PACK_ARGS ?=

PY := $(VENV)/bin/python
CORE := $(VENV)/.installed-core
DEMO := $(VENV)/.installed-video
FULL := $(VENV)/.installed-$(TEST_EXTRAS)
MANIFEST := pyproject.toml constraints.txt triode/version.py

# Pins hold for the build back end too: older pip reads the first name there, newer pip the second.
export PIP_CONSTRAINT := constraints.txt
export PIP_BUILD_CONSTRAINT := constraints.txt
export PIP_DISABLE_PIP_VERSION_CHECK := 1
# Two OpenMP threads that spin beside another busy process are slower than one.
export OMP_WAIT_POLICY ?= passive

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help setup demo test lint format bench golden gpu-pack constraints clean

help: ## Print the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  %-12s %s\n", $$1, $$2 }' Makefile

setup: $(CORE) ## Create .venv with triode and its core dependencies

demo: $(DEMO) ## Encode and decode a photo, a recording and a clip with the bundled weights (core dependencies and PyAV)
	$(PY) examples/demo.py

test: $(FULL) ## Install what the tests need, then run them (PYTEST_ARGS="-q tests/entropy" picks some)
	OMP_NUM_THREADS=1 $(PY) -m pytest $(PYTEST_ARGS)

lint: $(FULL) ## Check style, format and types
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/mypy

format: $(FULL) ## Format the code and mend what ruff can mend by itself
	$(VENV)/bin/ruff check --fix-only .
	$(VENV)/bin/ruff format .

bench: $(FULL) ## Measure the speed of the image codec beside CompressAI's (BENCH_ARGS)
	$(PY) benchmarks/image_speed.py $(BENCH_ARGS)

golden: $(CORE) ## Make golden bitstreams for cases that have none; those that stand never change
	$(PY) tools/make_golden.py $(GOLDEN_ARGS)

gpu-pack: $(FULL) ## Pack what a training run on a GPU machine needs
	$(PY) tools/gpu_pack.py $(GPU_PACK_ARGS)

constraints: | $(PY) ## Rewrite constraints.txt after a change of requirements in pyproject.toml
	PIP_CONSTRAINT= PIP_BUILD_CONSTRAINT= $(PY) tools/update_constraints.py

clean: ## Remove caches and build products; .venv stays
	rm -rf build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -not -path './$(VENV)/*' -prune -exec rm -rf {} +

$(PY):
	@$(PYTHON) -c 'import sys; sys.exit(0 if sys.version_info >= (3, 11) else "Triode needs Python 3.11 or newer, and $(PYTHON) is " + sys.version.split()[0])'
	$(PYTHON) -m venv $(VENV)

$(CORE): $(MANIFEST) | $(PY)
	@echo "Installing triode into $(VENV)"
	$(PY) -m pip install -q -e .
	@touch $@

$(DEMO): $(MANIFEST) | $(PY)
	@echo "Installing triode and PyAV into $(VENV)"
	$(PY) -m pip install -q -e '.[video]'
	@touch $(CORE) $@

$(FULL): $(MANIFEST) tools/cpu_torchvision.py | $(PY)
	@echo "Installing triode and its extras into $(VENV): some minutes the first time"
	$(PY) -m pip install -q -e '.[$(TEST_EXTRAS)]'
	$(PY) tools/cpu_torchvision.py
	@touch $(CORE) $(DEMO) $@
