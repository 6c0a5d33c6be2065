"""A run on several processes."""

import fcntl
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import torch
from torch.distributed.constants import default_pg_timeout

from retouche.client import Retouche
from retouche.contract.runs import TrainingData
from retouche.store import ObjectStore
from tests.trainer import worlds
from tests.trainer.runs import CHECKOUT, accepted, environment, is_finished, lora, short_run, trainer


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
    alone, together = (lora(store, submitted.id) for submitted in (one, two))
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
    assert is_finished(store, run_id)
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
    assert is_finished(store, run_id)
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
    assert is_finished(store, run_id)


def test_several_processes_cannot_follow_a_running_job(
    client: Retouche, store: ObjectStore, redis_url: str, tmp_path: Path
) -> None:
    spec = short_run(worlds.submit(store)).model_copy(update={"seed": 1})
    followed = spec.model_copy(update={"data": spec.data.model_copy(update={"follow": True})})
    with trainer(store, redis_url, tmp_path / "runs", processes=2):
        ended = client.wait_run(client.submit_run(followed).id)
    assert ended.state == "failed"
    assert "RETOUCHE_TRAIN_PROCESSES=1" in (ended.error or "")
