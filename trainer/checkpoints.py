"""Checkpoints: everything a run needs to go on as if it had never stopped. Each is whole or not there.

checkpoints/<step>/weights.safetensors      the trained weights
checkpoints/<step>/average.safetensors      their moving average, where there is one
checkpoints/<step>/optimizer.safetensors    AdamW's moments, `<name>.<moment>`
checkpoints/<step>/state.json               step, positions used, specification, loss scale, source, digest

Noise, order and learning rate are functions of seed and step: there is no random state to save.
"""

import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file

from retouche.contract.payload import JsonObject
from retouche.contract.runs import RunSpec
from retouche.errors import Conflict

KEPT = 2

Weights = dict[str, torch.Tensor]


@dataclass(frozen=True)
class Checkpoint:
    """What is saved after `step` optimiser steps over the first `positions` examples of the run."""

    step: int
    positions: int
    weights: Weights
    optimizer: Weights
    average: Weights | None
    loss_scale: dict[str, Any]
    source: JsonObject
    data_digest: str


def write(folder: Path, checkpoint: Checkpoint, spec: RunSpec) -> Path:
    """Write aside, then rename; the oldest beyond KEPT go. Returns the checkpoint's folder."""
    final = folder / "checkpoints" / f"{checkpoint.step:08d}"
    aside = final.with_name(final.name + ".writing")
    shutil.rmtree(aside, ignore_errors=True)
    aside.mkdir(parents=True)
    save_tensors(checkpoint.weights, aside / "weights.safetensors")
    save_tensors(checkpoint.optimizer, aside / "optimizer.safetensors")
    if checkpoint.average is not None:
        save_tensors(checkpoint.average, aside / "average.safetensors")
    state = {
        "step": checkpoint.step,
        "positions": checkpoint.positions,
        "loss_scale": checkpoint.loss_scale,
        "source": checkpoint.source,
        "data_digest": checkpoint.data_digest,
        "spec": spec.model_dump(mode="json"),
    }
    (aside / "state.json").write_text(json.dumps(state, indent=2) + "\n")
    shutil.rmtree(final, ignore_errors=True)
    aside.rename(final)
    for old in finished(folder)[:-KEPT]:
        shutil.rmtree(old)
    return final


def finished(folder: Path) -> list[Path]:
    """The whole checkpoints of a run, oldest first."""
    return sorted(path for path in (folder / "checkpoints").glob("*") if path.name.isdigit())


def last_step(folder: Path) -> int:
    """The step of the last checkpoint of a run, 0 where there is none."""
    return max((int(path.name) for path in finished(folder)), default=0)


def newest(folder: Path, spec: RunSpec, data_digest: str) -> Checkpoint | None:
    """The last checkpoint of a run, None where there is none.

    Raises:
        Conflict: it belongs to another specification; names the fields that differ. Or to other pairs, where
            they are not those of a running job.
    """
    if not (found := finished(folder)):
        return None
    last = found[-1]
    state = json.loads((last / "state.json").read_text())
    _same(state["spec"], spec.model_dump(mode="json"), last)
    if state["data_digest"] != data_digest and not spec.data.follow:
        raise Conflict(
            f"the checkpoint {last} was made with other pairs (digest {state['data_digest']}) than there are "
            f"now ({data_digest}); put the data back as they were, or submit a run of another seed"
        )
    average = last / "average.safetensors"
    return Checkpoint(
        state["step"],
        state["positions"],
        load_file(last / "weights.safetensors"),
        load_file(last / "optimizer.safetensors"),
        load_file(average) if average.exists() else None,
        state["loss_scale"],
        state["source"],
        state["data_digest"],
    )


def moments(optimizer: torch.optim.Optimizer, names: list[str]) -> Weights:
    """An optimiser's state as tensors by `<name>.<moment>`; `names` in the order of its parameters."""
    states = optimizer.state_dict()["state"]
    return {
        f"{names[index]}.{moment}": value
        for index, state in states.items()
        for moment, value in state.items()
    }


def restore_moments(optimizer: torch.optim.Optimizer, names: list[str], saved: Weights) -> None:
    """The reverse of `moments`."""
    index_of, states = {name: index for index, name in enumerate(names)}, dict[int, dict[str, torch.Tensor]]()
    for key, value in saved.items():
        name, moment = key.rsplit(".", 1)
        states.setdefault(index_of[name], {})[moment] = value
    optimizer.load_state_dict({**optimizer.state_dict(), "state": states})


def save_tensors(tensors: Weights, path: Path) -> None:
    """Write a safetensors file."""
    save_file({name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}, path)


def _same(saved: dict[str, Any], asked: dict[str, Any], path: Path) -> None:
    differing = [name for name in asked if saved.get(name) != asked[name]]
    if differing:
        raise Conflict(
            f"the checkpoint {path} was made with another {' and '.join(differing)}; "
            "submit the changed specification as a run of its own, or resume with the same one"
        )
