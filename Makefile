# Everything a developer runs. `make help` lists it.
SHELL := /bin/bash
PYTHON ?= python3
BIN := .venv/bin
CODE := services gateway deploy sdk tests
HOME_DIR ?= $(HOME)/.modelry
PYTEST := $(BIN)/python -m pytest
CHAOS_KILLS ?= 100
CHAOS_SEED ?= 0
SIEGE_SECONDS ?= 60
MUTATIONS ?= 40000

.DEFAULT_GOAL := help
.PHONY: help setup protos check lint types protos-check docs-check dead-code unit format test test-full chaos demo bench docs up down constraints release-protos

help: ## this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sort | awk -F ':.*## ' '{printf "  make %-16s %s\n", $$1, $$2}'

setup: ## make .venv (again): CPU packages without a GPU, GPU packages with one; MODELRY_EXTRA_INDEX_URL adds an index
	@$(PYTHON) deploy/tooling/environment.py

protos: setup ## generate the typed stubs of protos/ into sdk/modelry
	$(BIN)/python deploy/tooling/protos.py

check: lint types protos-check docs-check dead-code unit ## lint, types, protos, reference pages, dead code, unit tests; edits nothing

lint: setup ## ruff: rules and format
	$(BIN)/ruff check $(CODE)
	$(BIN)/ruff format --check $(CODE)

types: setup ## mypy, strict
	$(BIN)/mypy

protos-check: setup ## rules of protos, stubs that are stale, changes that would break users
	$(BIN)/python deploy/tooling/protos.py --lint
	$(BIN)/python deploy/tooling/protos.py --check

docs-check: setup ## name pages of docs/reference that are stale
	$(BIN)/python deploy/tooling/reference.py --check

dead-code: setup ## name code that nothing uses
	$(BIN)/python deploy/tooling/dead_code.py

unit: setup ## unit tests: no network, no process, no sleep
	$(PYTEST) -q -m unit tests/unit

format: setup ## let ruff put the code in order
	$(BIN)/ruff check --fix $(CODE)
	$(BIN)/ruff format $(CODE)

test: check ## check, then one path of everything on real parts; under 50 minutes
	$(PYTEST) -m "(contract or integration or e2e or chaos) and not full" tests

test-full: setup ## what `make test` leaves out: PostgreSQL, a control plane without torch, requests made from the OpenAPI schema
	$(PYTEST) -m full tests

chaos: setup ## kill at random while all works: CHAOS_KILLS (100), CHAOS_SEED (0: clock); hostile clients: SIEGE_SECONDS (60), MUTATIONS (40000)
	$(BIN)/python -m tests.chaos.random --kills $(CHAOS_KILLS) --seed $(CHAOS_SEED)
	$(BIN)/python -m tests.chaos.clients --seconds $(SIEGE_SECONDS)
	$(BIN)/python -m tests.chaos.mutations --count $(MUTATIONS) --seed $(CHAOS_SEED)
	$(BIN)/python -m pytest -q -s tests/integration/dataset/test_hostile_p99.py

demo: setup ## the whole journey on a real model, from nothing
	$(BIN)/python -m deploy.demo

bench: setup ## records beside MLflow, gateway, start-up, memory, serving, training; fails under a floor; PARTS="records gateway" for some
	$(BIN)/python -m tests.bench $(PARTS)

docs: setup ## write docs/reference from protos, code, settings and CLI
	$(BIN)/python deploy/tooling/reference.py

up: setup ## start the embedded stack in HOME_DIR (default ~/.modelry) in the background
	$(BIN)/modelry up --home $(HOME_DIR) --detach

down: setup ## stop it
	$(BIN)/modelry down --home $(HOME_DIR)

constraints: ## write deploy/tooling/constraints-cpu.txt from what is installed now
	$(BIN)/python deploy/tooling/environment.py --constraints

release-protos: setup ## note the protos as released: later changes are compared with them
	$(BIN)/python deploy/tooling/protos.py --release
