"""What a run gives is what was trained."""

from pathlib import Path

import pytest
import torch
from diffusers import StableDiffusionPipeline, UNet2DConditionModel

from retouche.contract.runs import Lora
from tests.trainer.tiny import policy
from trainer.artifacts import save_adapter


@pytest.mark.parametrize("tuning", [Lora(rank=2), Lora(rank=2, alpha=16)], ids=["plain", "alpha"])
def test_plain_diffusers_with_the_lora_predicts_what_the_policy_does(tmp_path: Path, tuning: Lora) -> None:
    trained = policy(tmp_path, tuning)
    with torch.no_grad():
        for weight in trained.trainable().values():
            weight.normal_(generator=torch.Generator().manual_seed(weight.numel()))
    save_adapter(trained, tmp_path / "lora")

    plain = UNet2DConditionModel.from_pretrained(tmp_path / "unet")
    state, alphas, metadata = StableDiffusionPipeline.lora_state_dict(
        tmp_path / "lora", return_lora_metadata=True
    )
    StableDiffusionPipeline.load_lora_into_unet(state, alphas, plain, metadata=metadata)
    inputs = (torch.ones(1, 4, 4, 4), torch.tensor(3), torch.ones(1, 3, 8))
    with torch.no_grad():
        expected, found = (unet(*inputs).sample for unet in (trained.unet, plain))
    assert torch.allclose(expected, found, atol=1e-5)


def test_the_same_lora_is_the_same_bytes(tmp_path: Path) -> None:
    trained = policy(tmp_path, Lora(rank=2, alpha=16))
    written = set()
    for time in range(16):
        save_adapter(trained, tmp_path / str(time))
        written.add((tmp_path / str(time) / "pytorch_lora_weights.safetensors").read_bytes())
    assert len(written) == 1
