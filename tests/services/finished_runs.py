"""Training runs that have finished, as the trainer leaves them in the store."""

from pathlib import Path

import torch

from retouche.contract.payload import ModelIdentity
from retouche.contract.runs import Lora
from retouche.store import ObjectStore, run, run_path
from tests.services.test_adapters import finished
from trainer.artifacts import save_adapter
from trainer.policy import load


def random_adapter(base: str, folder: Path) -> bytes:
    """A LoRA for the UNet of `base`, strong enough to be seen."""
    policy = load(base, Lora(rank=4), 0)
    with torch.no_grad():
        for weight in policy.trainable().values():
            weight.normal_(std=0.3)
    folder.mkdir()
    save_adapter(policy, folder)
    return (folder / "pytorch_lora_weights.safetensors").read_bytes()


def finish(store: ObjectStore, run_id: str, adapter: bytes, base: ModelIdentity) -> None:
    """Store a run that says it was trained on `base`."""
    for name, content in (
        ("spec.json", b"{}"),
        ("finished.json", finished(base).model_dump_json().encode()),
        ("artifacts/pytorch_lora_weights.safetensors", adapter),
    ):
        run(store.put(run_path(run_id, name), content))
