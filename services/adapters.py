"""The LoRAs of finished training runs, worn by a pipeline for one batch at a time."""

import tempfile
from functools import cache
from pathlib import Path
from typing import Any

from retouche.contract.payload import ModelIdentity, RunId
from retouche.contract.runs import RunResult
from retouche.errors import Conflict, ModelFailure, NotFound, RunNotFound
from retouche.store import ObjectStore, run_path

MOST_LOADED = 8  # adapters that a pipeline keeps
_WEIGHTS = "pytorch_lora_weights.safetensors"


async def fetch(store: ObjectStore, run_id: RunId | None, base: ModelIdentity | None = None) -> None:
    """Bring the LoRA of a run onto this machine, unless it is there; for None there is nothing to bring.

    Raises:
        RunNotFound: there is no such run.
        Conflict: it has not finished, made no LoRA, or was trained on another base than `base`, where given.
    """
    if run_id is None or _file(run_id).exists():
        return
    if not await store.exists(run_path(run_id, "spec.json")):
        raise RunNotFound(f"adapter: there is no run {run_id}; `retouche runs list` has them")
    try:
        result = RunResult.model_validate_json(await store.get(run_path(run_id, "finished.json")))
    except NotFound:
        raise Conflict(
            f"adapter: run {run_id} has not finished; `retouche runs follow {run_id}` waits for it"
        ) from None
    if base is not None and result.base != base:
        raise Conflict(
            f"adapter: run {run_id} was trained on {result.base}, and this service draws with {base}; "
            "serve that base by a profile, or train on this one"
        )
    try:
        weights = await store.get(run_path(run_id, f"artifacts/{_WEIGHTS}"))
    except NotFound:
        raise Conflict(
            f"adapter: {run_id} was full fine-tuning and has no LoRA; serve its pipeline by a profile"
        ) from None
    file = _file(run_id)
    file.parent.mkdir(exist_ok=True)
    aside = file.with_suffix(".writing")
    aside.write_bytes(weights)
    aside.rename(file)


def wear(pipeline: Any, run_id: RunId | None) -> None:
    """Put on the adapter of a run fetched before, or none. Called in the model's thread.

    Raises:
        Conflict: the pipeline has no UNet, which is what a run trains.
        ModelFailure: the adapter belongs to another base.
    """
    unet = getattr(pipeline, "unet", None)
    if unet is None and run_id is not None:
        raise Conflict(
            f"adapter: the LoRA of {run_id} is for the UNet of a Stable Diffusion, and this service runs a "
            f"{type(pipeline).__name__}; leave adapter out"
        )
    loaded = list(getattr(unet, "peft_config", {}))
    if run_id is None:
        if loaded:
            pipeline.disable_lora()
        return
    if run_id not in loaded:
        if len(loaded) >= MOST_LOADED:
            pipeline.delete_adapters(loaded[0])
        try:
            pipeline.load_lora_weights(_file(run_id).parent, weight_name=_WEIGHTS, adapter_name=run_id)
        except (RuntimeError, ValueError) as error:
            raise ModelFailure(f"the adapter of {run_id} does not fit this model: {error}") from None
    pipeline.enable_lora()
    pipeline.set_adapters(run_id)


def _file(run_id: RunId) -> Path:
    return _folder() / run_id / _WEIGHTS


@cache
def _folder() -> Path:
    """This process's own."""
    return Path(tempfile.mkdtemp(prefix="retouche-adapters-"))
