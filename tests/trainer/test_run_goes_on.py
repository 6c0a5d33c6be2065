"""A run that was killed, told to stop or retried goes on where it was."""

import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from gateway.app import create_app
from retouche.client import Retouche
from retouche.store import ObjectStore, run, run_path
from tests.gateway.conftest import settings_for
from tests.live import live
from tests.trainer import worlds
from tests.trainer.runs import (
    CHECKOUT,
    accepted,
    environment,
    has_checkpoint,
    is_finished,
    short_run,
    trainer,
)
from tests.until import until


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
    while not has_checkpoint(other, run_id) and process.poll() is None:
        time.sleep(0.02)
    process.kill()
    process.wait()
    assert not is_finished(other, run_id)
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
    while not has_checkpoint(store, run_id) and process.poll() is None:
        time.sleep(0.02)
    process.terminate()
    assert process.wait(timeout=60) == 0
    assert not is_finished(store, run_id)
    subprocess.run(command, check=True, cwd=CHECKOUT, env=environment(store, redis_url, tmp_path / "runs"))
    client.download_artifacts(run_id, tmp_path / "made")
    board = EventAccumulator(str(tmp_path / "made" / "tensorboard")).Reload()
    logged = [metrics.step for metrics in client.run_metrics(run_id)]
    assert [event.step for event in board.Scalars("loss")] == logged


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
