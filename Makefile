# `make` lists the targets. Each target sets up .venv first where that is not done yet.
VENV_PYTHON := .venv/bin/python
DEMO_ARGS ?=
TEST_ARGS ?=
# Processes that run tests; each keeps to one thread
TEST_JOBS ?= 2
BENCHMARK_ARGS ?=
STUDY_ARGS ?=

.DEFAULT_GOAL := help
.PHONY: help setup test demo benchmark study lint format clean

help:  ## list the targets
	@awk -F ':.*## ' '/^[a-z]+:.*## /{printf "make %-10s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup:  ## make .venv: pinned packages and Detectron2 (DETECTRON2=wheel, source or a checkout)
	@tools/setup_env.sh

test: setup  ## run the tests (TEST_ARGS="-k isa -x")
	OMP_NUM_THREADS=1 $(VENV_PYTHON) -m pytest -n $(TEST_JOBS) --no-loadscope-reorder $(TEST_ARGS)

demo: setup  ## run tools/demo.py (DEMO_ARGS="--help")
	$(VENV_PYTHON) tools/demo.py $(DEMO_ARGS)

benchmark: setup  ## what the pyramids cost, side by side (BENCHMARK_ARGS="--quick")
	$(VENV_PYTHON) tools/benchmark.py $(BENCHMARK_ARGS)

study: setup  ## what INSPIRE gains over FPN on PolypGen (STUDY_ARGS="--weights FILE --quick")
	$(VENV_PYTHON) tools/study.py $(STUDY_ARGS)

lint: setup  ## check style and format
	$(VENV_PYTHON) -m ruff check .
	$(VENV_PYTHON) -m ruff format --check .

format: setup  ## mend style and format
	$(VENV_PYTHON) -m ruff check --fix .
	$(VENV_PYTHON) -m ruff format .

clean:  ## remove .venv, caches and build leftovers; runs/ and datasets/ stay
	rm -rf .venv build dist *.egg-info .pytest_cache .ruff_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
