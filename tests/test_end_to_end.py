"""The whole system on this machine: real Redis, services, worker and gateway, the shapes weights."""

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import httpx2
import pytest
from redis import Redis
from redis.exceptions import AuthenticationError

from retouche.client import AsyncRetouche, Retouche
from retouche.contract.evaluation import TRUTH, Evaluation
from retouche.contract.jobs import CurationSpec, ImageTrace
from retouche.contract.runs import DiffusionDpo, Optimisation, RunSpec, TrainingData
from retouche.contract.stages import GenerateRequest
from retouche.evaluation import evaluate
from retouche.evaluation_report import write_report
from retouche.images import decode
from retouche.local.system import System, running
from shapes.prompts import held_out_prompts
from shapes.truth import score

SPEC = CurationSpec(prompts=tuple(held_out_prompts()[:8]), seed=3)


@pytest.fixture(scope="module")
def system(tmp_path_factory: pytest.TempPathFactory) -> Iterator[System]:
    with running(tmp_path_factory.mktemp("system")) as system:
        yield system


@pytest.fixture
def client(system: System) -> Iterator[Retouche]:
    with Retouche(system.url) as client:
        yield client


def accounted(traces: list[ImageTrace]) -> tuple[int, dict[str, int]]:
    """Pairs, and what was dropped by reason, counted from the traces."""
    ends: list[str] = [trace.dropped for trace in traces if trace.dropped]
    ends += [edit.outcome for trace in traces for edit in trace.edits]
    counts = {reason: ends.count(reason) for reason in ends}
    return counts.pop("pair", 0), counts


def test_prompts_become_pairs_with_everything_that_led_to_them(client: Retouche) -> None:
    job = client.wait(client.submit(SPEC).id)
    assert job.state == "finished", job.error
    traces, pairs = list(client.traces(job.id)), list(client.pairs(job.id))
    assert [trace.prompt for trace in traces] == list(SPEC.prompts or ())
    assert accounted(traces) == (len(pairs), job.report.dropped)
    for pair in pairs:
        assert pair.findings
        assert pair.instruction.text
        assert decode(client.image(pair.chosen)).size == (64, 64)
        assert pair.chosen != pair.rejected
        assert set(pair.chosen_scores) == {"clip_contrastive", "clip_preference"}
        assert all(pair.chosen_scores[name] > pair.rejected_scores[name] for name in pair.chosen_scores)


def test_services_answer_their_own_system_alone(system: System, client: Retouche) -> None:
    (gateway,) = (process for process in system.processes if process.name == "gateway")
    request = GenerateRequest(prompt="a red circle on a gray background", seed=1)
    url = gateway.environment["RETOUCHE_GENERATION_URL"]
    refused = httpx2.post(f"{url}/v1/generate", json=request.model_dump(exclude_unset=True))
    assert (refused.status_code, refused.json()["type"]) == (401, "urn:retouche:unauthorized")
    assert decode(client.image(client.generate(request).image)).size == (64, 64)


def test_its_redis_wants_a_password_that_no_process_list_shows(system: System) -> None:
    with Redis.from_url(system.redis_url) as redis:
        assert redis.ping()
    host_and_port = system.redis_url.rsplit("@", 1)[1]
    with Redis.from_url(f"redis://{host_and_port}") as nobody, pytest.raises(AuthenticationError):
        nobody.ping()
    password = system.redis_url.split("@")[0].rsplit(":", 1)[1]
    assert not any(password in argument for process in system.processes for argument in process.command)
    (secret,) = (Path(part) for part in system.processes[0].command if part.endswith(".conf"))
    assert secret.stat().st_mode & 0o077 == 0


def test_the_same_specification_is_the_same_job(client: Retouche) -> None:
    first, again = client.submit(SPEC), client.submit(SPEC)
    assert first.id == again.id


def test_a_job_becomes_a_lora_that_is_compared_with_its_base(
    system: System, client: Retouche, tmp_path: Path
) -> None:
    job = client.wait(client.submit(SPEC).id)
    spec = RunSpec(
        data=TrainingData(job=job.id),
        objective=DiffusionDpo(beta=2000),
        optimisation=Optimisation(steps=4, batch_size=2, learning_rate=5e-4, warmup_steps=1),
    )
    run = client.wait_run(client.submit_run(spec).id)
    assert run.state == "finished", run.error

    async def compared() -> Evaluation:
        async with AsyncRetouche(system.url) as asynchronous:
            prompts = held_out_prompts()[20:24]
            found = await evaluate(asynchronous, run.id, prompts, truth=score, style=job.id)
            await write_report(asynchronous, found, tmp_path / "report.html")
            await asynchronous.keep_evaluation(found)
            assert await asynchronous.evaluations(run.id) == [found]
        return found

    found = asyncio.run(compared())
    assert set(found.judgements) == {"clip_contrastive", "clip_preference", TRUTH}
    assert all(comparison.base != comparison.tuned for comparison in found.comparisons)
    assert found.style is not None
    assert min(found.style.base, found.style.tuned) > 0
    assert held_out_prompts()[20] in (tmp_path / "report.html").read_text()


LOOP_RUN = """
objective: {name: diffusion_dpo, beta: 2000}
optimisation: {steps: 4, batch_size: 2, warmup_steps: 1, checkpoint_every_steps: 1}
"""


def test_a_loop_that_was_killed_goes_on_where_it_was(
    system: System, client: Retouche, tmp_path: Path
) -> None:
    (tmp_path / "prompts.txt").write_text("\n".join(held_out_prompts()[:8]))
    (tmp_path / "held-out.txt").write_text("\n".join(held_out_prompts()[20:22]))
    (tmp_path / "run.yaml").write_text(LOOP_RUN)
    before = {job.id for job in client.jobs()}, {run.id for run in client.runs()}
    with _loop(system, tmp_path) as killed:
        while len({run.id for run in client.runs()} - before[1]) == 0:
            assert killed.poll() is None, "the loop ended before it could be killed"
            time.sleep(0.05)
        killed.kill()
    with _loop(system, tmp_path) as again:
        rounds = json.loads(again.communicate(timeout=300)[0])
    assert again.returncode == 0
    (run_id,) = {run.id for run in client.runs()} - before[1]
    assert [found["run"] for found in rounds] == [run_id]
    assert len({job.id for job in client.jobs()} - before[0]) == 1


def _loop(system: System, folder: Path) -> "subprocess.Popen[str]":
    files = "--prompts prompts.txt --evaluation-prompts held-out.txt --spec run.yaml"
    command = f"loop --rounds 1 --seed 9 {files} --json"
    return subprocess.Popen(
        [sys.executable, "-m", "retouche.cli.main", *command.split()],
        cwd=folder,
        env=os.environ | {"RETOUCHE_URL": system.url, "PYTHONPATH": str(Path(__file__).parents[1])},
        stdout=subprocess.PIPE,
        text=True,
    )


def test_a_killed_system_goes_on_where_it_was(tmp_path: Path) -> None:
    """Killed in the middle of a job and started again, it ends with what an undisturbed run has."""
    spec = SPEC.model_copy(update={"seed": 4})
    with running(tmp_path / "disturbed") as system, Retouche(system.url) as client:
        job = client.submit(spec)
        _until_something_is_done(client, job.id)
        for process in system.processes:
            assert process.pid is not None
            os.kill(process.pid, signal.SIGKILL)
    with running(tmp_path / "disturbed") as system, Retouche(system.url) as client:
        job = client.wait(job.id)
        disturbed = [trace.model_dump() for trace in client.traces(job.id)]
        assert job.report.stages["generation"].remembered > 0
    with running(tmp_path / "undisturbed") as system, Retouche(system.url) as client:
        client.wait(client.submit(spec).id)
        undisturbed = [trace.model_dump() for trace in client.traces(job.id)]
    assert disturbed == undisturbed


def _until_something_is_done(client: Retouche, job_id: str) -> None:
    for _ in range(600):
        report = client.job(job_id).report
        if report.images > 0:
            return
        time.sleep(0.1)
    raise AssertionError("no image was made within a minute")
