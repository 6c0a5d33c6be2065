"""A model of which something is missing is refused by name, in place of training on random numbers."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image
from safetensors.torch import load_file, save_file

from retouche.contract.runs import Full, Lora
from retouche.errors import BadRequest
from shapes.train.loop import MODELS
from trainer.encoders import Encoders, RelationModel
from trainer.policy import load

PICTURE = Image.new("RGB", (64, 64), "red")


def without_one(model: Path, weights: str, tensor: str) -> None:
    kept = {name: value.clone() for name, value in load_file(model / weights).items() if name != tensor}
    save_file(kept, model / weights)


@pytest.mark.parametrize(
    ("part", "weights", "tensor", "use"),
    [
        ("unet", "diffusion_pytorch_model", "conv_in.weight", lambda base: load(base, Lora(), 0)),
        ("unet", "diffusion_pytorch_model", "conv_in.weight", lambda base: load(base, Full(), 0)),
        ("vae", "diffusion_pytorch_model", "quant_conv.bias", lambda base: Encoders(base).encode([PICTURE])),
        ("text_encoder", "model", "final_layer_norm.bias", lambda base: Encoders(base).embed(["a circle"])),
    ],
)
def test_a_tensor_that_a_base_lacks_is_named(
    tmp_path: Path, part: str, weights: str, tensor: str, use: Callable[[str], object]
) -> None:
    base = Path(shutil.copytree(MODELS / "base", tmp_path / "base"))
    without_one(base / part, f"{weights}.safetensors", tensor)
    with pytest.raises(BadRequest, match=rf"base: .*/{part} lacks 1 tensors of a .*{tensor}"):
        use(str(base))


def test_a_tensor_that_a_relation_model_lacks_is_named(tmp_path: Path) -> None:
    model = Path(shutil.copytree(MODELS / "reward_clip", tmp_path / "clip"))
    without_one(model, "model.safetensors", "visual_projection.weight")
    with pytest.raises(BadRequest, match=r"objective\.relation_model: .* \(visual_projection\.weight\)"):
        RelationModel(str(model)).embed(["a circle"], [PICTURE])


def test_a_base_without_safetensors_is_refused(tmp_path: Path) -> None:
    base = Path(shutil.copytree(MODELS / "base", tmp_path / "base"))
    (base / "vae" / "diffusion_pytorch_model.safetensors").unlink()
    with pytest.raises(BadRequest, match=r"base: .*/vae cannot be read"):
        Encoders(str(base)).encode([PICTURE])
