"""How much of a training step is the step: `python -m bench.train_step`.

A whole step against its parts timed alone (policy forward and backward, reference forward), and against the
same step with the autoencoder and the text encoder inside, as the public training scripts have it.
"""

import json
import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
import typer
from rich.console import Console
from rich.table import Table

from retouche.contract.runs import DiffusionDpo, Full, Lora, Optimisation, RunSpec, TrainingData
from retouche.images import decode
from retouche.store import ObjectStore, run
from tests.trainer import worlds
from trainer.batches import PairBatch, draws
from trainer.denoising import Noised, noised
from trainer.encode import Encoding, encode_pairs
from trainer.encoded import EncodedPairs
from trainer.encoders import Encoders
from trainer.loop import Training, prepare, take_step
from trainer.meter import Meter
from trainer.pairs import TrainingPair
from trainer.policy import Policy, load, predict
from trainer.sources.dataset import finished_pairs

BASE = "shapes/models/base"
_console = Console(stderr=True)


@dataclass(frozen=True)
class Bench:
    """A training under way and one of its batches."""

    training: Training
    batch: PairBatch
    noisy: Noised
    pairs: list[TrainingPair]
    encoders: Encoders
    store: ObjectStore


def main(batch_size: int = 16, repeats: int = 12, lora: bool = True) -> None:
    """Time everything in turn, `repeats` times; medians."""
    with tempfile.TemporaryDirectory() as folder:
        bench = _bench(Path(folder), batch_size, lora)
        meter = Meter(bench.training.spec.objective, bench.training.accelerator.device)
        parts: dict[str, Callable[[], object]] = {
            "whole step": lambda: take_step(bench.training, 0, meter),
            "policy forward and backward": lambda: _policy(bench),
            "reference forward": lambda: _reference(bench),
            "encoding inside the step": lambda: _encode(bench),
        }
        seconds = _timed(parts, repeats)
    alone = seconds["policy forward and backward"] + seconds["reference forward"]
    whole = seconds["whole step"]
    figures = {
        "benchmark": "train_step",
        "batch_size": batch_size,
        "tuning": "lora" if lora else "full",
        "ratio": round(whole / alone, 3),
        "pairs_per_second": round(batch_size / whole, 1),
        "pairs_per_second_encoding_inside": round(
            batch_size / (whole + seconds["encoding inside the step"]), 1
        ),
    }
    table = Table("part", "ms", box=None)
    for name, value in seconds.items():
        table.add_row(name, f"{value * 1000:.0f}")
    _console.print(table)
    _console.print(f"whole over the sum of policy and reference: {figures['ratio']} (goal: at most 1.15)")
    print(json.dumps(figures))


def _bench(folder: Path, batch_size: int, lora: bool) -> Bench:
    store = ObjectStore(str(folder / "store"))
    job = worlds.finished_job(store, shards=1, pairs=batch_size)
    pairs = run(finished_pairs(store, job))
    encoders = Encoders(BASE)
    encode_pairs(store, Encoding(encoders), pairs)
    spec = RunSpec(
        data=TrainingData(job=job),
        base=BASE,
        objective=DiffusionDpo(anchor_weight=200.0),
        tuning=Lora() if lora else Full(),
        optimisation=Optimisation(batch_size=batch_size, warmup_steps=0),
    )
    data = EncodedPairs(store, Encoding(encoders), pairs, seed=0)
    training = prepare(spec, load(BASE, spec.tuning, 0), data)
    drawn = draws(data, spec.data, 0, range(batch_size))
    batch = data.batch(drawn).to(training.accelerator.device)
    noisy = noised(training.policy, batch, 0, [draw.position for draw in drawn])
    return Bench(training, batch, noisy, pairs, encoders, store)


def _policy(bench: Bench) -> None:
    predicted = predict(bench.training.unet, bench.noisy.noisy_NCHW, bench.noisy.timesteps_N, bench.batch)
    (predicted - bench.noisy.target_NCHW).square().mean().backward()
    bench.training.optimizer.zero_grad(set_to_none=True)


def _reference(bench: Bench) -> None:
    policy: Policy = bench.training.policy
    with policy.reference() as reference:
        predict(reference, bench.noisy.noisy_NCHW, bench.noisy.timesteps_N, bench.batch)


def _encode(bench: Bench) -> None:
    for side in ("chosen", "rejected"):
        images = [decode(run(bench.store.get_image(getattr(pair, side)))) for pair in bench.pairs]
        bench.encoders.encode(images)
    bench.encoders.embed([pair.prompt for pair in bench.pairs])


def _timed(parts: dict[str, Callable[[], object]], repeats: int) -> dict[str, float]:
    """Medians in seconds; the parts take turns, so that a noisy moment hits them all."""
    taken: dict[str, list[float]] = {name: [] for name in parts}
    for _ in range(repeats + 2):
        for name, part in parts.items():
            began = time.perf_counter()
            part()
            if torch.accelerator.is_available():
                torch.accelerator.synchronize()
            taken[name].append(time.perf_counter() - began)
    return {name: statistics.median(values[2:]) for name, values in taken.items()}


if __name__ == "__main__":
    typer.run(main)
