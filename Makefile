# The only list of commands. Every target is complete on a fresh machine.
SHELL := /bin/bash
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
MODEL ?=
SPEECH ?= ../shared/speech
MINUTES ?= 30
export PIP_DISABLE_PIP_VERSION_CHECK := 1

.PHONY: help setup serve test check fmt-check lint types layers fix demo bench bench-jobs bench-overhead fairness soak picture build \
	fuzz audit accuracy clean

help: ## list the targets
	@grep -hE '^[a-z-]+:.*##' Makefile | sed 's/:.*## /\t/' | expand -t 14

$(BIN)/python:
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install -q -c constraints.txt --upgrade pip

# The server alone: no torch.
$(VENV)/.serve: pyproject.toml constraints.txt | $(BIN)/python
	$(BIN)/pip install -q -c constraints.txt -e .
	@touch $@

# Format, lint, types and the tests that need no NeMo.
$(VENV)/.dev: $(VENV)/.serve
	$(BIN)/pip install -q -c constraints.txt --group dev
	@touch $@

# Everything: torch first and by exact version (the CPU build), then NeMo beside it; and the graph of Silero, to compare with.
$(VENV)/.full: $(VENV)/.dev
	$(BIN)/pip install -q torch==2.13.0
	$(BIN)/pip install -q -c constraints.txt -e '.[nemo]'
	$(BIN)/pip install -q -c constraints.txt --no-deps silero-vad
	@touch $@

# What tests talk to: Debian packages, and an S3 API server whose versions are not ours.
$(VENV)/.system: scripts/system-packages.sh | $(BIN)/python
	scripts/system-packages.sh
	@touch $@

$(VENV)-s3/.done: tests/storage/s3-requirements.txt
	$(PYTHON) -m venv $(VENV)-s3
	$(VENV)-s3/bin/pip install -q -r $<
	@touch $@

setup: $(VENV)/.full ## a virtual environment with everything

serve: $(VENV)/.serve ## run the server on 127.0.0.1:8000 (MODEL=name for another model)
	$(BIN)/nautilus serve $(if $(MODEL),--model $(MODEL))

test: $(VENV)/.full $(VENV)/.system $(VENV)-s3/.done ## the full test suite
	$(BIN)/python -m pytest

check: fmt-check lint types layers ## format, lint, types and layers

fmt-check: $(VENV)/.dev
	$(BIN)/ruff format --check

lint: $(VENV)/.dev
	$(BIN)/ruff check

types: $(VENV)/.dev
	$(BIN)/mypy
	cd benchmarks && MYPYPATH=../src:. $(abspath $(BIN))/mypy --config-file ../pyproject.toml --cache-dir ../.mypy_cache/benchmarks .

layers: $(VENV)/.dev
	$(BIN)/lint-imports

fix: $(VENV)/.dev ## repair what ruff can
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

demo: $(VENV)/.serve ## start the server, transcribe a sample through the API, stop it
	$(BIN)/python benchmarks/demo.py

bench: $(VENV)/.full ## one table: throughput, latency, start, memory
	$(BIN)/python benchmarks/run.py --speech $(SPEECH)

build: $(VENV)/.dev ## a wheel and a source archive in dist/
	$(BIN)/python -m hatchling build

bench-jobs: $(VENV)/.full ## what jobs cost: accepted per second, overhead, huge batches, priorities
	$(BIN)/python benchmarks/jobs.py --speech $(SPEECH)

COUNT ?= 20000
SEED ?= 1

fuzz: $(VENV)/.dev ## damaged recordings, wrong WebSockets, odd requests (COUNT=20000 SEED=1)
	$(BIN)/python -m tests.fuzz --count $(COUNT) --seed $(SEED) --real

$(VENV)-audit/bin/pip-audit: | $(BIN)/python
	$(PYTHON) -m venv $(VENV)-audit
	$(VENV)-audit/bin/pip install -q 'pip-audit>=2.10,<3'

audit: $(VENV)-audit/bin/pip-audit ## known vulnerabilities in what constraints.txt pins (asks PyPI)
	scripts/audit.sh $(VENV)-audit/bin/pip-audit

bench-overhead: $(VENV)/.serve ## what keys, limits, metrics and traces cost a request
	$(BIN)/python benchmarks/overhead.py

picture: $(VENV)/.dev $(VENV)/.system ## docs/dashboard.svg: the dashboard of a server under load, by a real Prometheus
	$(BIN)/python benchmarks/picture.py docs/dashboard.svg --speech $(SPEECH)

accuracy: $(VENV)/.dev ## every table of docs/accuracy.md and docs/preprocessing.md
	$(BIN)/python benchmarks/accuracy.py --speech $(SPEECH)

soak: $(VENV)/.full ## everything at once for MINUTES (30), and what came of it
	$(BIN)/python benchmarks/soak.py --speech $(SPEECH) --minutes $(MINUTES)

fairness: $(VENV)/.full ## what one tenant's flood does to another
	$(BIN)/python benchmarks/fairness.py --speech $(SPEECH)

clean: ## remove the virtual environment and caches
	rm -rf $(VENV) $(VENV)-s3 $(VENV)-audit dist .pytest_cache .mypy_cache .ruff_cache .import_linter_cache
