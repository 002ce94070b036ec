# Everything a developer runs. `make help` lists it.
SHELL := /bin/bash
PYTHON ?= python3
BIN := .venv/bin
CODE := services gateway deploy sdk tests
HOME_DIR ?= $(HOME)/.modelry
PYTEST := $(BIN)/python -m pytest

.DEFAULT_GOAL := help
.PHONY: help setup protos check lint types protos-check unit format test demo bench docs up down constraints release-protos

help: ## this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sort | awk -F ':.*## ' '{printf "  make %-16s %s\n", $$1, $$2}'

setup: ## make .venv (again): CPU packages without a GPU, GPU packages with one; MODELRY_EXTRA_INDEX_URL adds an index
	@$(PYTHON) deploy/tooling/environment.py

protos: setup ## generate the typed stubs of protos/ into sdk/modelry
	$(BIN)/python deploy/tooling/protos.py

check: lint types protos-check unit ## lint, types, protos, unit tests; edits nothing

lint: setup
	$(BIN)/ruff check $(CODE)
	$(BIN)/ruff format --check $(CODE)

types: setup
	$(BIN)/mypy

protos-check: setup
	$(BIN)/python deploy/tooling/protos.py --lint
	$(BIN)/python deploy/tooling/protos.py --check

unit: setup
	$(PYTEST) -q -m unit tests/unit

format: setup ## let ruff put the code in order
	$(BIN)/ruff check --fix $(CODE)
	$(BIN)/ruff format $(CODE)

test: check ## check, then every test but the browser's
	$(PYTEST) -m "contract or integration or e2e or chaos" tests

demo: setup ## the whole journey on a real model, from nothing
	$(BIN)/python -m deploy.demo

bench: setup ## training, start-up, memory, gateway and attach figures
	$(BIN)/python -m tests.bench

docs: setup ## write docs/reference from the protos and the CLI
	$(BIN)/python deploy/tooling/reference.py

up: setup ## start the embedded stack in HOME_DIR (default ~/.modelry) in the background
	$(BIN)/modelry up --home $(HOME_DIR) --detach

down: setup ## stop it
	$(BIN)/modelry down --home $(HOME_DIR)

constraints: ## write deploy/tooling/constraints-cpu.txt from what is installed now
	$(BIN)/python deploy/tooling/environment.py --constraints

release-protos: setup ## note the protos as released: later changes are compared with them
	$(BIN)/python deploy/tooling/protos.py --release
