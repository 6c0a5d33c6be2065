"""A training run as its users see it: submitted at the gateway, trained by a process, loaded by diffusers."""

import fcntl
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path

import pytest
import torch
from diffusers import StableDiffusionPipeline
from safetensors.torch import load
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch.distributed.constants import default_pg_timeout

from gateway.app import create_app
from retouche.client import Retouche
from retouche.contract.payload import LOCAL
from retouche.contract.runs import (
    DiffusionDpo,
    DiffusionRpo,
    Full,
    Lora,
    Optimisation,
    RunRecord,
    RunSpec,
    TrainingData,
    Tuning,
)
from retouche.errors import NotFound
from retouche.store import ObjectStore, run, run_path
from shapes.train.loop import MODELS
from tests.gateway.conftest import settings_for
from tests.live import live
from tests.trainer import worlds
from tests.until import until

CHECKOUT = Path(__file__).parents[2]
SHORT = Optimisation(
    steps=6, batch_size=2, learning_rate=1e-3, warmup_steps=1, checkpoint_every_steps=2, log_every_steps=2
)


def short_run(job: str, tuning: Tuning | None = None, **changes: int) -> RunSpec:
    return RunSpec(
        data=TrainingData(job=job),
        base="shapes/models/base",
        objective=DiffusionDpo(anchor_weight=200.0),
        tuning=tuning or Lora(rank=4),
        optimisation=SHORT.model_copy(update=changes),
    )


def environment(store: ObjectStore, redis_url: str, runs: Path) -> dict[str, str]:
    return os.environ | {
        "RETOUCHE_STORE": store.url,
        "RETOUCHE_REDIS_URL": redis_url,
        "RETOUCHE_RUNS_FOLDER": str(runs),
        "OMP_NUM_THREADS": "1",
    }


@contextmanager
def trainer(store: ObjectStore, redis_url: str, runs: Path, processes: int = 1) -> Iterator[None]:
    """`python -m trainer`, stopped when the block is left."""
    command = [sys.executable, "-m", "trainer"]
    settings = environment(store, redis_url, runs) | {"RETOUCHE_TRAIN_PROCESSES": str(processes)}
    process = subprocess.Popen(command, env=settings, cwd=CHECKOUT)
    try:
        yield
    finally:
        process.terminate()
        process.wait(timeout=60)


def accepted(store: ObjectStore, spec: RunSpec) -> str:
    """A run as the gateway leaves it in the store; for `python -m trainer.run`."""
    run_id = spec.run_id(LOCAL)
    record = RunRecord(id=run_id, tenant=LOCAL, spec=spec, created_at=datetime.now(UTC))
    run(store.create(run_path(run_id, "spec.json"), record.model_dump_json().encode()))
    return run_id


@pytest.fixture
def client(store: ObjectStore, redis_url: str) -> Iterator[Retouche]:
    """A client of a gateway on the test's store and Redis."""
    with live(create_app(settings_for(store.url, redis_url))) as url, Retouche(url) as client:
        yield client


def test_a_run_ends_with_a_lora_that_plain_diffusers_loads(
    client: Retouche, store: ObjectStore, redis_url: str, tmp_path: Path
) -> None:
    spec = short_run(worlds.finished_job(store))
    with trainer(store, redis_url, tmp_path / "runs"):
        ended = client.wait_run(client.submit_run(spec).id)
    assert (ended.state, ended.step) == ("finished", 6), ended.error
    assert ended.result is not None
    assert ended.result.pairs == 8
    assert [metrics.step for metrics in client.run_metrics(ended.id)] == [2, 4, 6]
    client.download_artifacts(ended.id, tmp_path / "lora")
    assert ended.result.data_digest in (tmp_path / "lora" / "README.md").read_text()
    assert list((tmp_path / "lora" / "tensorboard").iterdir())
    assert _moved_by_lora(tmp_path / "lora")
    assert not (tmp_path / "runs" / ended.id).exists(), "everything is in the store"


def _moved_by_lora(folder: Path) -> bool:
    """Does a plain pipeline draw something else once it has loaded the LoRA?"""
    pipeline = StableDiffusionPipeline.from_pretrained(MODELS / "base", dtype=torch.float32)
    pipeline.set_progress_bar_config(disable=True)

    def draw() -> torch.Tensor:
        generator = torch.Generator().manual_seed(0)
        prompt = "a red circle on a gray background"
        drawn = pipeline(
            prompt, num_inference_steps=3, generator=generator, output_type="pt", height=64, width=64
        )
        images: torch.Tensor = drawn.images
        return images

    before = draw()
    pipeline.load_lora_weights(folder)
    return not torch.equal(before, draw())


def test_a_killed_run_goes_on_on_another_machine_and_ends_with_the_same_bytes(
    store: ObjectStore, redis_url: str, tmp_path: Path
) -> None:
    spec = short_run(worlds.finished_job(store), steps=12)
    other = ObjectStore(str(tmp_path / "other"))
    shutil.copytree(store.url, other.url, dirs_exist_ok=True)
    run_id = accepted(store, spec)
    assert accepted(other, spec) == run_id
    command = [sys.executable, "-m", "trainer.run", run_id]
    subprocess.run(command, check=True, cwd=CHECKOUT, env=environment(store, redis_url, tmp_path / "a"))

    process = subprocess.Popen(command, cwd=CHECKOUT, env=environment(other, redis_url, tmp_path / "b"))
    while not _has_checkpoint(other, run_id) and process.poll() is None:
        time.sleep(0.02)
    process.kill()
    process.wait()
    assert not _finished(other, run_id)
    elsewhere = environment(other, redis_url, tmp_path / "c")
    ended = subprocess.run(command, check=True, cwd=CHECKOUT, env=elsewhere, capture_output=True, text=True)
    assert "goes on from the checkpoint at step" in ended.stderr

    lora = run_path(run_id, "artifacts/pytorch_lora_weights.safetensors")
    assert run(store.get(lora)) == run(other.get(lora))


def test_a_run_that_was_stopped_and_goes_on_in_its_folder_has_all_of_its_log_in_tensorboard(
    client: Retouche, store: ObjectStore, redis_url: str, tmp_path: Path
) -> None:
    run_id = accepted(store, short_run(worlds.finished_job(store), steps=40))
    command = [sys.executable, "-m", "trainer.run", run_id]
    process = subprocess.Popen(command, cwd=CHECKOUT, env=environment(store, redis_url, tmp_path / "runs"))
    while not _has_checkpoint(store, run_id) and process.poll() is None:
        time.sleep(0.02)
    process.terminate()
    assert process.wait(timeout=60) == 0
    assert not _finished(store, run_id)
    subprocess.run(command, check=True, cwd=CHECKOUT, env=environment(store, redis_url, tmp_path / "runs"))
    client.download_artifacts(run_id, tmp_path / "made")
    board = EventAccumulator(str(tmp_path / "made" / "tensorboard")).Reload()
    logged = [metrics.step for metrics in client.run_metrics(run_id)]
    assert [event.step for event in board.Scalars("loss")] == logged


def test_two_processes_train_what_one_does(
    client: Retouche, store: ObjectStore, redis_url: str, tmp_path: Path
) -> None:
    """Half of the batch on each; the run's folder, log and artifacts are the first one's work alone."""
    job = worlds.finished_job(store)
    one = client.submit_run(short_run(job))
    with trainer(store, redis_url, tmp_path / "one"):
        client.wait_run(one.id)
    two = client.submit_run(short_run(job, batch_size=1))
    with trainer(store, redis_url, tmp_path / "two", processes=2):
        ended = client.wait_run(two.id)
    assert (ended.state, ended.step) == ("finished", 6), ended.error
    alone, together = (_lora(store, submitted.id) for submitted in (one, two))
    for name, weight in alone.items():
        assert torch.allclose(weight, together[name], atol=5e-4), name  # half of what a step moves


def test_two_processes_train_on_a_folder_that_only_the_first_reads(
    store: ObjectStore, redis_url: str, tmp_path: Path
) -> None:
    """It may take hours, and the folder may have changed in between."""
    data = TrainingData(pick_a_pic=worlds.pick_a_pic(tmp_path / "folder", store))
    spec = short_run(worlds.finished_job(store), steps=2, batch_size=1).model_copy(update={"data": data})
    run_id = accepted(store, spec)
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    ended = subprocess.run(
        [*launch, "-m", "trainer.run", run_id],
        cwd=CHECKOUT,
        env=environment(store, redis_url, tmp_path / "runs"),
        capture_output=True,
        text=True,
    )
    assert ended.returncode == 0, ended.stderr
    assert _finished(store, run_id)
    assert (ended.stdout + ended.stderr).count("2 pairs, dropped") == 1


# A trainer of which every process says how long its collectives wait.
_SAYING_TIMEOUT = """
import sys, torch, torch.distributed as d
from trainer.run import main
main(sys.argv[1])
print("waits", d.group.WORLD._get_backend(torch.device("cpu")).options._timeout, flush=True)
"""
# A trainer whose collectives fail when another process is not there at once.
_IMPATIENT = """
import datetime, sys, torch.distributed as d
from trainer.run import main
d.init_process_group("gloo", timeout=datetime.timedelta(seconds=2))
sys.exit(main(sys.argv[1]))
"""


def launched(run_id: str, program: str, settings: dict[str, str]) -> "subprocess.Popen[str]":
    """Two processes of a program that takes a run, on the CPU."""
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    return subprocess.Popen(
        [*launch, "--no-python", sys.executable, "-c", program, run_id],
        cwd=CHECKOUT,
        env=settings | {"CUDA_VISIBLE_DEVICES": ""},
        stdout=subprocess.PIPE,
        text=True,
    )


def test_a_process_that_hangs_while_it_trains_ends_the_run_as_soon_as_torch_does(
    store: ObjectStore, redis_url: str, tmp_path: Path
) -> None:
    """The patience with which the others wait for the first one's encoding is not the training's."""
    run_id = accepted(store, short_run(worlds.finished_job(store), steps=1, batch_size=1))
    said, _ = launched(run_id, _SAYING_TIMEOUT, environment(store, redis_url, tmp_path)).communicate()
    assert _finished(store, run_id)
    assert said.count(f"waits {default_pg_timeout}") == 2, said


def test_the_other_processes_wait_for_the_first_one_longer_than_torch_does(
    store: ObjectStore, redis_url: str, tmp_path: Path
) -> None:
    run_id = accepted(store, short_run(worlds.finished_job(store), steps=1, batch_size=1))
    (tmp_path / run_id).mkdir()
    with (tmp_path / run_id / "lock").open("w") as lock:  # the first one waits for it
        fcntl.flock(lock, fcntl.LOCK_EX)
        process = launched(run_id, _IMPATIENT, environment(store, redis_url, tmp_path))
        with suppress(subprocess.TimeoutExpired):
            process.wait(timeout=15)
    assert process.wait() == 0
    assert _finished(store, run_id)


def test_several_processes_cannot_follow_a_running_job(
    client: Retouche, store: ObjectStore, redis_url: str, tmp_path: Path
) -> None:
    spec = short_run(worlds.submit(store)).model_copy(update={"seed": 1})
    followed = spec.model_copy(update={"data": spec.data.model_copy(update={"follow": True})})
    with trainer(store, redis_url, tmp_path / "runs", processes=2):
        ended = client.wait_run(client.submit_run(followed).id)
    assert ended.state == "failed"
    assert "RETOUCHE_TRAIN_PROCESSES=1" in (ended.error or "")


def _lora(store: ObjectStore, run_id: str) -> dict[str, torch.Tensor]:
    return load(run(store.get(run_path(run_id, "artifacts/pytorch_lora_weights.safetensors"))))


def _has_checkpoint(store: ObjectStore, run_id: str) -> bool:
    return run(store.exists(run_path(run_id, "checkpoints/00000002/state.json")))


def _finished(store: ObjectStore, run_id: str) -> bool:
    try:
        return bool(run(store.get(run_path(run_id, "finished.json"))))
    except NotFound:
        return False


def test_a_run_whose_folder_cannot_be_removed_has_finished_all_the_same(
    store: ObjectStore, redis_url: str, tmp_path: Path
) -> None:
    """As on NFS, where a lock that is held stays; here the folder is a link."""
    run_id = accepted(store, short_run(worlds.finished_job(store), steps=1))
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "runs").mkdir()
    (tmp_path / "runs" / run_id).symlink_to(tmp_path / "elsewhere")
    command = [sys.executable, "-m", "trainer.run", run_id]
    subprocess.run(command, check=True, cwd=CHECKOUT, env=environment(store, redis_url, tmp_path / "runs"))
    assert _finished(store, run_id)


def test_a_run_that_was_killed_once_it_had_finished_leaves_no_folder(
    store: ObjectStore, redis_url: str, tmp_path: Path
) -> None:
    run_id = accepted(store, short_run(worlds.finished_job(store)))
    run(store.create(run_path(run_id, "finished.json"), b"{}"))
    (tmp_path / run_id / "checkpoints").mkdir(parents=True)
    command = [sys.executable, "-m", "trainer.run", run_id]
    subprocess.run(command, check=True, cwd=CHECKOUT, env=environment(store, redis_url, tmp_path))
    assert not (tmp_path / run_id).exists()


def test_full_fine_tuning_ends_with_a_pipeline(
    client: Retouche, store: ObjectStore, redis_url: str, tmp_path: Path
) -> None:
    spec = short_run(worlds.finished_job(store), Full(), steps=2)
    with trainer(store, redis_url, tmp_path / "runs"):
        ended = client.wait_run(client.submit_run(spec).id)
    assert ended.state == "finished", ended.error
    client.download_artifacts(ended.id, tmp_path / "pipeline")
    assert StableDiffusionPipeline.from_pretrained(tmp_path / "pipeline").unet is not None


def test_a_base_that_is_gone_fails_the_run_with_the_reason(
    client: Retouche, store: ObjectStore, redis_url: str, tmp_path: Path
) -> None:
    spec = short_run(worlds.finished_job(store)).model_copy(update={"base": "nobody/nothing"})
    with trainer(store, redis_url, tmp_path / "runs"):
        ended = client.wait_run(client.submit_run(spec).id)
    assert ended.state == "failed"
    assert "nobody/nothing" in (ended.error or "")
    assert ended.artifacts == []


def test_a_relation_model_that_reads_nothing_fails_the_run_before_anything_is_encoded(
    client: Retouche, store: ObjectStore, redis_url: str, tmp_path: Path
) -> None:
    (tmp_path / "weights").mkdir()
    for name in ("config.json", "model.safetensors"):
        shutil.copy(MODELS / "reward_clip" / name, tmp_path / "weights")
    relative = DiffusionRpo(relation_model=str(tmp_path / "weights"))
    spec = short_run(worlds.finished_job(store)).model_copy(update={"objective": relative})
    with trainer(store, redis_url, tmp_path / "runs"):
        ended = client.wait_run(client.submit_run(spec).id)
    assert ended.state == "failed"
    assert (ended.error or "").startswith("objective.relation_model: ")
    assert not (Path(store.url) / "latents").exists()


def test_a_trainer_that_is_asked_for_one_run_ends_after_it(
    client: Retouche, store: ObjectStore, redis_url: str, tmp_path: Path
) -> None:
    job = worlds.finished_job(store)
    gone = [short_run(job).model_copy(update={"base": f"nobody/nothing-{number}"}) for number in range(2)]
    runs = [client.submit_run(spec).id for spec in gone]
    once = [sys.executable, "-m", "trainer", "--once"]
    subprocess.run(once, env=environment(store, redis_url, tmp_path), cwd=CHECKOUT, check=True, timeout=120)
    assert [client.run(run_id).state for run_id in runs] == ["failed", "queued"]


def test_a_run_that_is_told_to_stop_while_it_encodes_its_pairs_does(
    store: ObjectStore, redis_url: str, tmp_path: Path
) -> None:
    spec = short_run(worlds.finished_job(store, shards=1, pairs=150))
    run_id = accepted(store, spec)
    command = [sys.executable, "-m", "trainer.run", run_id]
    process = subprocess.Popen(command, cwd=CHECKOUT, env=environment(store, redis_url, tmp_path))
    encoded = Path(store.url)
    while not (encoded / "embeddings").exists() and process.poll() is None:
        time.sleep(0.01)
    process.terminate()
    assert process.wait(timeout=60) == 0
    latents, images = (list((encoded / kind).rglob("*.*")) for kind in ("latents", "images"))
    assert len(latents) < len(images)
    assert not run(store.folders(run_path(run_id, "checkpoints")))


@pytest.mark.parametrize("processes", [1, 2])
def test_a_trainer_that_is_told_to_stop_keeps_a_checkpoint_and_the_run_goes_on_elsewhere(
    client: Retouche, store: ObjectStore, redis_url: str, tmp_path: Path, processes: int
) -> None:
    finished = worlds.finished_job(store)
    spec = short_run(finished, steps=100_000, checkpoint_every_steps=50_000, log_every_steps=25)
    run_id = client.submit_run(spec).id
    with trainer(store, redis_url, tmp_path / "here", processes):
        while not client.run_metrics(run_id):
            time.sleep(0.1)
    (stopped_at,) = run(store.folders(run_path(run_id, "checkpoints")))
    assert 25 <= int(stopped_at) < 50, "after the step under way, not when it would log again"
    another_gateway = live(create_app(settings_for(store.url, redis_url)))  # which looks what is left at once
    with another_gateway, trainer(store, redis_url, tmp_path / "there", processes):
        while client.run_metrics(run_id)[-1].step <= int(stopped_at):
            time.sleep(0.1)
        client.cancel_run(run_id)


def test_a_run_that_is_retried_while_it_still_stops_goes_on(
    client: Retouche, store: ObjectStore, redis_url: str, tmp_path: Path
) -> None:
    """Its task is at work until the process has ended; this gateway looks for lost runs once an hour."""
    finished = worlds.finished_job(store)
    spec = short_run(finished, steps=100_000, checkpoint_every_steps=50_000, log_every_steps=25)
    run_id = client.submit_run(spec).id
    with trainer(store, redis_url, tmp_path / "runs"):
        until(lambda: client.run_metrics(run_id))
        client.cancel_run(run_id)
        until(lambda: run(store.folders(run_path(run_id, "checkpoints"))))
        assert client.retry_run(run_id).state == "running"
        stopped_at = client.run_metrics(run_id)[-1].step
        until(lambda: client.run_metrics(run_id)[-1].step > stopped_at)
        client.cancel_run(run_id)
