# Needs Python 3.11 or newer with venv, and git. Everything else goes into .venv.

PYTHON ?= python3
VENV ?= .venv
BIN ?= $(VENV)/bin
STAMP := $(VENV)/.installed
PROTO_BASELINE := proto/outrider/v1/image.binpb

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help setup demo test programs check audit sbom chaos exactness fuzz fuzz-guided bench bench-client bench-daemon bench-draft bench-retrieval bench-tokens bench-gpu bench-link bench-neighbours bench-network bench-wire train-demo-drafter format proto proto-baseline docs lock clean

help: ## List the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-19s %s\n", $$1, $$2 }' $(firstword $(MAKEFILE_LIST))

setup: $(STAMP) ## Create .venv with everything that development needs

# Installed again only when what is to be installed has changed.
$(STAMP): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Outrider needs Python 3.11 or newer, not " + sys.version.split()[0] + ": name one, as in make PYTHON=python3.12 setup")'
	@echo "Installing into $(VENV): about 1.5 GB the first time, minutes on a slow link."
	@$(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install --disable-pip-version-check --constraint constraints.txt --editable '.[all,dev]'
	@touch $@

# PROMPT reaches the program as one word whatever is in it: neither make nor the shell reads it.
unexport PROMPT
demo: export DEMO_PROMPT = $(value PROMPT)
demo: setup ## Generate text with a verifier and an edge on this machine (PROMPT="..." DRAFTER=int4)
	@$(BIN)/outrider demo $${DEMO_PROMPT:+--prompt="$$DEMO_PROMPT"} $(if $(DRAFTER),--drafter $(DRAFTER))

test: setup programs ## Run all tests
	$(BIN)/python -m pytest

programs: ## Install the broker, the browser and the like that checks and tests run (Debian, as root)
	@$(PYTHON) tools/system_programs.py

check: setup programs ## Format, lint, types, import rules, wire, deployment, pins, audit, SBOM: nothing is changed
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	MYPYPATH=tests:tests/benchmarks:tests/edge:tests/integration $(BIN)/mypy tests/benchmarks
	MYPYPATH=tests:tests/fuzz:tests/cloud:tests/edge $(BIN)/mypy tests/fuzz --exclude guided
	MYPYPATH=tests:tests/chaos:tests/cloud:tests/edge $(BIN)/mypy tests/chaos
	$(BIN)/mypy tools
	$(BIN)/lint-imports
	$(BIN)/buf lint
	$(BIN)/buf breaking proto --against $(PROTO_BASELINE)
	$(BIN)/python tools/generate_proto.py --check
	$(BIN)/python tools/generate_configuration.py --check
	$(BIN)/python tools/check_deploy.py
	$(BIN)/python tools/check_pins.py
	$(BIN)/python tools/audit_dependencies.py
	$(MAKE) --no-print-directory sbom

audit: setup ## Fail if the package index knows of a vulnerability in what is pinned
	$(BIN)/python tools/audit_dependencies.py --strict

sbom: setup ## Write build/sbom.json: all that is installed, as CycloneDX
	@mkdir -p build
	$(BIN)/cyclonedx-py environment --pyproject pyproject.toml --spec-version 1.6 \
	  --output-reproducible --no-validate --output-file build/sbom.json $(BIN)/python

chaos: setup ## Play 1,100 random fault histories, 100 of them of processes, and check every promise (half an hour)
	PYTHONPATH=tests:tests/cloud:tests/edge $(BIN)/python tests/chaos/chaos.py $(CHAOS)

exactness: setup ## Compare 100,000 tokens over random policies and broken links with plain decoding (an hour)
	$(BIN)/python tests/chaos/exactness.py $(EXACTNESS)

fuzz: setup ## Send 100,000 bad messages to each surface, and look at every answer (half an hour)
	PYTHONPATH=tests:tests/cloud:tests/edge $(BIN)/python tests/fuzz/fuzz.py $(FUZZ)

fuzz-guided: setup ## Fuzz what reads messages, guided by coverage (SURFACE=edge, verifier or program; needs atheris)
	PYTHONPATH=tests/cloud:tests/edge:tests/fuzz $(BIN)/python tests/fuzz/guided.py $(or $(SURFACE),edge) -max_total_time=300

bench: setup ## Measure the verifier's engine and write docs/benchmarks.md (a quarter of an hour)
	@mkdir -p build
	$(BIN)/python tests/benchmarks/bench_engine.py --out build/bench_engine.json --report docs/benchmarks.md

bench-client: setup ## Let a bench client of others, AIPerf, measure a real daemon (installs 1.2 GB into build/aiperf)
	$(BIN)/python tests/benchmarks/bench_client.py

bench-daemon: setup ## Measure a real daemon: first token, fairness of 16 streams, cost of being idle
	$(BIN)/python tests/benchmarks/bench_daemon.py

bench-draft: setup ## Measure the edge's draft model, printed as a page
	$(BIN)/python tests/benchmarks/bench_draft.py

bench-neighbours: setup ## Measure what an edge and a verifier on one machine cost each other
	$(BIN)/python tests/benchmarks/bench_neighbours.py $(NETWORK_BUNDLES)

bench-retrieval: setup ## Measure retrieval, printed as a page
	$(BIN)/python tests/benchmarks/bench_retrieval.py

bench-tokens: setup ## Measure tokens a pass: best-first drafting against fixed chains and trees
	@mkdir -p build
	$(BIN)/python tests/benchmarks/bench_tokens.py

bench-gpu: setup ## Measure passes on a GPU: build/bench_gpu.md is a section for docs/benchmarks.md
	@mkdir -p build
	$(BIN)/python tests/benchmarks/bench_gpu.py --out build/bench_gpu.json --section build/bench_gpu.md

# A grid takes hours: this goes on where it was stopped. NETWORK_BUNDLES names those that are compared.
NETWORK_BUNDLES ?= smollm2-135m-int8 smollm2-135m-int4 $(patsubst %/manifest.json,%,$(wildcard $(DRAFTER_DIR)/bundle/manifest.json))
NETWORK_RESULTS ?= build/network.json
bench-network: setup ## Measure all policies over a grid of links; goes on where it was stopped
	@mkdir -p build
	$(BIN)/outrider bench run --out $(NETWORK_RESULTS) --resume $(foreach bundle,$(NETWORK_BUNDLES),--bundle $(bundle))

bench-link: setup ## Measure what the link emulator adds, printed as a page
	$(BIN)/python tests/benchmarks/bench_link.py

bench-wire: setup ## Measure bytes on the wire for each drafted node and token, printed as a page
	$(BIN)/python tests/benchmarks/bench_wire.py

# In two parts: questions of all kinds, then more of those that the target seldom asks itself.
# More text and more epochs make a better drafter, given the time: on a GPU, for example,
# make train-demo-drafter DRAFTER_TEXT=50000000 DRAFTER_MORE_TEXT=10000000 DRAFTER_BATCH=16384 DRAFTER_DIR=build/gpu
DRAFTER_TEXT ?= 812000
DRAFTER_EPOCHS ?= 1.5
DRAFTER_MORE_TEXT ?= 105000
DRAFTER_MORE_EPOCHS ?= 0.6
DRAFTER_BATCH ?= 1024
DRAFTER_DIR ?= build/demo-drafter
DISTIL = $(BIN)/outrider models distill smollm2-135m --take 0,1,2,3,28,29 --batch-tokens $(DRAFTER_BATCH)
train-demo-drafter: setup ## Train a small drafter for the demo's target; goes on where it was stopped
	$(BIN)/outrider models pull smollm2-135m
	$(DISTIL) --out $(DRAFTER_DIR)/first \
	  --prompts data/prompts/self_instruct.jsonl --prompts data/prompts/gsm8k_questions.jsonl \
	  --text-tokens $(DRAFTER_TEXT) --epochs $(DRAFTER_EPOCHS) --learning-rate 0.0025 --seed 1
	$(DISTIL) --out $(DRAFTER_DIR)/second \
	  --openings data/prompts/openings.jsonl --max-tokens 640 --text-tokens $(DRAFTER_MORE_TEXT) \
	  --text-of $(DRAFTER_DIR)/first --start-from $(DRAFTER_DIR)/first/trained.safetensors \
	  --epochs $(DRAFTER_MORE_EPOCHS) --learning-rate 0.0012 --seed 2

format: setup ## Format the code and mend what the linter can mend
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

proto: setup ## Generate the code of the wire from proto/
	$(BIN)/python tools/generate_proto.py

proto-baseline: setup ## Accept proto/ as what later changes must stay compatible with
	$(BIN)/buf build proto --output $(PROTO_BASELINE)

docs: setup ## Generate docs/configuration.md from the settings classes
	$(BIN)/python tools/generate_configuration.py

lock: ## Pin the newest versions that pyproject.toml admits in constraints.txt
	$(PYTHON) tools/lock.py

clean: ## Remove .venv and all caches
	rm -rf $(VENV) build dist .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis
	rm -rf deploy/schemas/node_modules
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
