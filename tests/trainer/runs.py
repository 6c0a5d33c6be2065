"""Short runs of the real trainer, and what they leave in the store."""

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

import torch
from safetensors.torch import load

from retouche.contract.payload import LOCAL
from retouche.contract.runs import DiffusionDpo, Lora, Optimisation, RunRecord, RunSpec, TrainingData, Tuning
from retouche.errors import NotFound
from retouche.store import ObjectStore, run, run_path

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


def lora(store: ObjectStore, run_id: str) -> dict[str, torch.Tensor]:
    return load(run(store.get(run_path(run_id, "artifacts/pytorch_lora_weights.safetensors"))))


def has_checkpoint(store: ObjectStore, run_id: str) -> bool:
    return run(store.exists(run_path(run_id, "checkpoints/00000002/state.json")))


def is_finished(store: ObjectStore, run_id: str) -> bool:
    try:
        return bool(run(store.get(run_path(run_id, "finished.json"))))
    except NotFound:
        return False
