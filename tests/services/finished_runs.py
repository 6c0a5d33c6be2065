"""Training runs that have finished, as the trainer leaves them in the store."""

from pathlib import Path

import torch

from retouche.contract.payload import ModelIdentity
from retouche.contract.runs import Lora, RunResult, TrainingMetrics
from retouche.store import ObjectStore, run, run_path
from trainer.artifacts import save_adapter
from trainer.policy import load


def random_adapter(base: str, folder: Path, seed: int = 0) -> bytes:
    """A LoRA for the UNet of `base`, strong enough to be seen."""
    policy = load(base, Lora(rank=4), seed)
    with torch.no_grad():
        for weight in policy.trainable().values():
            weight.normal_(std=0.3)
    folder.mkdir(exist_ok=True)
    save_adapter(policy, folder)
    return (folder / "pytorch_lora_weights.safetensors").read_bytes()


def finish(store: ObjectStore, run_id: str, adapter: bytes | None, base: ModelIdentity) -> None:
    """Store a run that says it was trained on `base`; without an adapter it was full fine-tuning."""
    metrics = TrainingMetrics.model_validate(dict.fromkeys(TrainingMetrics.model_fields, 1))
    result = RunResult(
        base=base, steps=1, pairs=1, data_digest="sha256:" + "0" * 64, metrics=metrics, seconds=1
    )
    files = {"spec.json": b"{}", "finished.json": result.model_dump_json().encode()}
    if adapter is not None:
        files["artifacts/pytorch_lora_weights.safetensors"] = adapter
    for name, content in files.items():
        run(store.put(run_path(run_id, name), content))
