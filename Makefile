# Everything that one does with this repository. `make` alone lists it.

VENV := .venv
PYTHON_BIN := $(VENV)/bin/python
INSTALLED := $(VENV)/.installed
BENCH_VENV := .venv-bench
BENCH_INSTALLED := $(BENCH_VENV)/.installed
# These two want versions of one library that exclude each other.
PEERS := verifiers inspect_ai
PEERS_INSTALLED := $(PEERS:%=.venv-bench-%/.installed)

# Nothing may reach for a hub, and two test workers share two cores.
TEST_ENV := HF_HUB_OFFLINE=1 TOKENIZERS_PARALLELISM=false OMP_NUM_THREADS=1
WORKERS ?= auto
PYTEST := $(TEST_ENV) $(PYTHON_BIN) -m pytest
IN_PARALLEL := -n $(WORKERS) --maxprocesses 4 --dist loadscope
CODE := src tests scripts $(wildcard bench examples)
# Tests that hold the repository together: who imports whom, stage keys, documents, files.
STEADY := tests/test_layers.py tests/test_docs.py tests/test_repository.py $(shell grep -rl --include="test_*.py" golden_keys tests)

.DEFAULT_GOAL := help
.PHONY: help install quickstart test check fix soak bench bench-launch bench-evaluate bench-convert bench-analyze bench-view bench-rollouts bench-rollouts-memory docs wheel hooks lock system-packages clean

help:  ## List the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  %-22s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

install: $(INSTALLED)  ## Make .venv with the pinned packages and holdfast itself

$(INSTALLED): requirements/all.txt pyproject.toml scripts/install.sh
	sh scripts/install.sh $(VENV) requirements/all.txt .
	@touch $@

system-packages:  ## Install the Debian packages that tests need (as root, where missing)
	@sh scripts/system_packages.sh tests

quickstart: $(INSTALLED)  ## Watch a small model learn, stop, resume (ARGS='--root DIR' for another place)
	$(VENV)/bin/holdfast quickstart $(ARGS)

test: $(INSTALLED) system-packages  ## Run the tests (ARGS='-k name' for some of them)
	$(PYTEST) $(IN_PARALLEL) -m "not soak" $(ARGS)

check: $(INSTALLED)  ## Lint, format, types, layers, golden keys, documents in step
	$(PYTHON_BIN) -m ruff check .
	$(PYTHON_BIN) -m ruff format --check .
	$(PYTHON_BIN) -m mypy $(CODE)
	$(PYTHON_BIN) scripts/generate_cli_reference.py --check
	$(PYTHON_BIN) scripts/quote_results.py --check
	$(PYTEST) -q $(STEADY)

fix: $(INSTALLED)  ## Let ruff mend and format what it can
	$(PYTHON_BIN) -m ruff check --fix .
	$(PYTHON_BIN) -m ruff format .

soak: $(INSTALLED) system-packages  ## Run the long tests too: 1,000 random kills, drawn seeds (an hour or more)
	HOLDFAST_SOAK=1 $(PYTEST) -o timeout=0 $(ARGS)

bench: $(INSTALLED) $(BENCH_INSTALLED)  ## Measure the core beside Hydra and Snakemake
	HOLDFAST_BENCH_PYTHON=$(CURDIR)/$(BENCH_VENV)/bin/python $(PYTHON_BIN) bench/core.py $(ARGS)

bench-launch: $(INSTALLED) $(BENCH_INSTALLED) system-packages  ## Measure a sweep of 1,000 points on a real SLURM
	HOLDFAST_BENCH_PYTHON=$(CURDIR)/$(BENCH_VENV)/bin/python $(PYTHON_BIN) bench/launch.py $(ARGS)

bench-evaluate: $(INSTALLED)  ## Measure our client and loop beside httpx and the OpenAI SDK
	$(PYTHON_BIN) bench/evaluate.py $(ARGS)

bench-analyze: $(INSTALLED)  ## Measure the report on rollouts beside pandas and jq -s (ARGS='--large 0' for less)
	$(PYTHON_BIN) bench/analyze.py $(ARGS)

bench-convert: $(INSTALLED)  ## Measure a conversion of 2 GB beside torch and cp (ARGS='--gigabytes 2 8' for more)
	$(PYTHON_BIN) bench/convert.py $(ARGS)

bench-view: $(INSTALLED)  ## Measure the page on 1,000,000 rollouts of 2 KB (ARGS='--rows 100000' for fewer)
	$(PYTHON_BIN) bench/view.py $(ARGS)

bench-rollouts-memory: $(INSTALLED)  ## Measure memory from 10,000 to 1,000,000 rollouts (ARGS='--large 100000' for less)
	$(PYTHON_BIN) bench/rollouts_memory.py $(ARGS)

bench-rollouts: $(INSTALLED) $(PEERS_INSTALLED)  ## Measure the collector beside verifiers, inspect_ai and bare aiohttp
	$(PYTHON_BIN) bench/rollouts.py $(foreach peer,$(PEERS),--peer-python $(peer)=.venv-bench-$(peer)/bin/python) $(ARGS)

.venv-bench-%/.installed: requirements/bench-%.txt scripts/install.sh
	sh scripts/install.sh .venv-bench-$* $<
	@touch $@

$(BENCH_INSTALLED): requirements/bench.txt scripts/install.sh
	sh scripts/install.sh $(BENCH_VENV) requirements/bench.txt
	@touch $@

docs: $(INSTALLED)  ## Write the generated documents
	$(PYTHON_BIN) scripts/generate_cli_reference.py
	$(PYTHON_BIN) scripts/quote_results.py

wheel: $(INSTALLED)  ## Build dist/holdfast-*.whl
	$(PYTHON_BIN) -m pip wheel --no-deps --no-build-isolation --wheel-dir dist .

hooks: $(INSTALLED)  ## Check each commit before it is made
	$(PYTHON_BIN) -m pre_commit install

lock: $(INSTALLED)  ## Resolve the newest allowed versions into requirements/
	PYTHON=$(PYTHON_BIN) sh scripts/lock.sh

clean:  ## Remove what these targets made (never runs or results)
	rm -rf $(VENV) $(BENCH_VENV) $(PEERS:%=.venv-bench-%) dist .hypothesis .mypy_cache .pytest_cache .ruff_cache
	find src tests scripts -name __pycache__ -type d -prune -exec rm -rf {} +
