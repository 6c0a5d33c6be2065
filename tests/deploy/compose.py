"""The whole system in containers, used from outside: `make compose-test`, as it needs a container engine.

The commands are the README's, run against images built from this checkout.
"""

import json
import os
import re
import secrets
import shlex
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from bench.processes import free_port
from retouche.client import Retouche
from retouche.contract.jobs import CurationSpec, Job
from retouche.contract.runs import DiffusionDpo, Optimisation, RunSpec, TrainingData
from retouche.errors import Unauthorized
from shapes.prompts import held_out_prompts

ROOT = Path(__file__).parents[2]
PROJECT = "retouche-compose-test"
UP, SCALE, DOWN = re.findall(r"^    (docker compose .*?)(?: +#.*)?$", (ROOT / "README.md").read_text(), re.M)
EDITED = re.compile(r'^retouche_request_seconds_count\{route="/v1/edit",status="200"\} (\S+)$', re.M)


class Composed:
    """The running system: its address, and what its admin key opens."""

    def __init__(self) -> None:
        published = f"127.0.0.1:{free_port()}"
        self.url = f"http://{published}"
        self.admin_key = secrets.token_hex(24)
        self.environment = {
            **os.environ,
            "COMPOSE_PROJECT_NAME": PROJECT,
            "RETOUCHE_VERSION": "compose-test",
            "RETOUCHE_PUBLISH": published,
            "RETOUCHE_ADMIN_KEY": self.admin_key,
            "RETOUCHE_INTERNAL_TOKEN": secrets.token_hex(24),
            "RETOUCHE_REDIS_PASSWORD": secrets.token_hex(24),
        }

    def run(self, command: str) -> str:
        """Run one of the README's commands, or another like it; with docker-compose where that is it."""
        has_plugin = subprocess.run(["docker", "compose", "version"], capture_output=True, check=False)
        if has_plugin.returncode != 0:
            command = command.replace("docker compose", "docker-compose", 1)
        return said(shlex.split(command), self.environment)

    def containers(self, service: str = "") -> list[str]:
        return self.run(f"docker compose ps --quiet {service}").split()

    def inspect(self, container: str) -> dict[str, Any]:
        (described,) = json.loads(said(["docker", "inspect", container], self.environment))
        assert isinstance(described, dict)
        return described

    def wait_until_healthy(self) -> None:
        """Until every container's own health check has passed."""
        deadline = time.monotonic() + 300
        while True:
            states = {str(found["Name"]): found["State"] for found in map(self.inspect, self.containers())}
            waiting = {
                name: state for name, state in states.items() if state["Health"]["Status"] != "healthy"
            }
            if not waiting:
                return
            assert time.monotonic() < deadline, waiting
            time.sleep(1)

    def edits(self) -> list[int]:
        """Requests answered by every replica of editing."""
        read = "import urllib.request as u; print(u.urlopen('http://127.0.0.1:8704/metrics').read().decode())"
        metrics = [
            said(["docker", "exec", replica, "python", "-c", read], self.environment)
            for replica in self.containers("editing")
        ]
        return [int(float(found[1])) if (found := EDITED.search(text)) else 0 for text in metrics]


def said(command: list[str], environment: dict[str, str]) -> str:
    """What a command printed; AssertionError, with what it complained of, if it failed."""
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{shlex.join(command)}\n{done.stdout}\n{done.stderr}"
    return done.stdout


@pytest.fixture(scope="module")
def composed() -> Iterator[Composed]:
    """The system, built and started."""
    composed = Composed()
    said(["make", "images"], composed.environment)
    try:
        composed.run(UP)
        composed.wait_until_healthy()
        yield composed
    finally:
        composed.run(f"{DOWN} --volumes")


@pytest.fixture(scope="module")
def key(composed: Composed) -> str:
    """A tenant's key, made with the admin's."""
    with Retouche(composed.url, api_key=composed.admin_key) as admin:
        return admin.create_key("outside", ["curate", "train", "read", "services"]).key


@pytest.fixture
def client(composed: Composed, key: str) -> Iterator[Retouche]:
    with Retouche(composed.url, api_key=key) as client:
        yield client


def curated(client: Retouche, seed: int) -> Job:
    spec = CurationSpec(prompts=tuple(held_out_prompts()[:8]), images_per_prompt=3, seed=seed)
    job = client.wait(client.submit(spec).id)
    assert job.state == "finished", job.error
    return job


def test_without_a_key_nobody_is_served(composed: Composed, key: str) -> None:
    assert key
    with Retouche(composed.url) as stranger, pytest.raises(Unauthorized):
        stranger.services()


def test_a_job_and_a_run_from_outside(client: Retouche, tmp_path: Path) -> None:
    job = curated(client, seed=1)
    assert list(client.pairs(job.id))
    spec = RunSpec(
        data=TrainingData(job=job.id),
        objective=DiffusionDpo(beta=2000),
        optimisation=Optimisation(steps=4, batch_size=2, learning_rate=5e-4, warmup_steps=1),
    )
    run = client.wait_run(client.submit_run(spec).id)
    assert run.state == "finished", run.error
    files = {path.name for path in client.download_artifacts(run.id, tmp_path)}
    assert "pytorch_lora_weights.safetensors" in files


def test_three_replicas_of_editing_share_its_calls(composed: Composed, client: Retouche) -> None:
    composed.run(SCALE)
    composed.wait_until_healthy()
    assert len(composed.containers("editing")) == 3
    before = composed.edits()
    job = curated(client, seed=2)
    done = [after - earlier for after, earlier in zip(composed.edits(), before, strict=True)]
    print(f"edits by replica: {done}")
    assert sum(done) >= job.report.edits
    assert min(done) > 0, done


def test_containers_may_do_little(composed: Composed) -> None:
    for container in composed.containers():
        described = composed.inspect(container)
        host, name = described["HostConfig"], described["Name"]
        assert (host["ReadonlyRootfs"], host["CapDrop"]) == (True, ["ALL"]), name
        assert host["Memory"], name
        assert host["NanoCpus"], name
        if "redis" not in str(name):
            assert described["Config"]["User"] == "10001:10001", name


def test_sigterm_ends_every_process_in_time(composed: Composed) -> None:
    containers = composed.containers()
    composed.run("docker compose stop")
    ends = {str(found["Name"]): found["State"] for found in map(composed.inspect, containers)}
    assert {name: end["ExitCode"] for name, end in ends.items() if end["ExitCode"] not in (0, 143)} == {}
