"""A model of which something is missing is refused by name, in place of training on random numbers."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

from retouche.contract.runs import Full, Lora
from retouche.errors import BadRequest
from shapes.train.loop import MODELS
from trainer.encoders import Encoders, RelationModel
from trainer.policy import load

CLIP = MODELS / "reward_clip"
CLIP_TOKENIZER = '{"tokenizer_class": "CLIPTokenizer"}'
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
    model = Path(shutil.copytree(CLIP, tmp_path / "clip"))
    without_one(model, "model.safetensors", "visual_projection.weight")
    with pytest.raises(BadRequest, match=r"objective\.relation_model: .* \(visual_projection\.weight\)"):
        RelationModel(str(model)).embed(["a circle"], [PICTURE])


def clip_files(folder: Path, *names: str) -> str:
    """A folder with some of the files of a CLIP."""
    folder.mkdir()
    for name in names:
        shutil.copy(CLIP / name, folder / name)
    return str(folder)


def test_a_relation_model_reads_with_the_tokenizer_and_image_processor_of_its_base(tmp_path: Path) -> None:
    """Published reward models come as weights alone."""
    weights = clip_files(tmp_path / "weights", "config.json", "model.safetensors")
    apart, whole = RelationModel(weights, base=str(CLIP)), RelationModel(str(CLIP))
    apart.check()
    embedded = [model.embed(["a red circle"], [PICTURE])[0]["relation"] for model in (apart, whole)]
    assert torch.equal(*embedded)


@pytest.mark.parametrize(
    ("there", "lacking"),
    [
        (("config.json",), "tokenizer_config.json"),
        (("config.json", "tokenizer_config.json", "tokenizer.json"), "preprocessor_config.json"),
    ],
)
def test_a_relation_model_that_cannot_read_is_refused_before_it_embeds_anything(
    tmp_path: Path, there: tuple[str, ...], lacking: str
) -> None:
    model = clip_files(tmp_path / "clip", *there)
    with pytest.raises(BadRequest, match=rf"(?s)objective\.relation_model: .*{lacking}.*relation_base"):
        RelationModel(model).check()


def test_a_tokenizer_without_a_vocabulary_is_refused(tmp_path: Path) -> None:
    """transformers makes one all the same, which reads every prompt alike."""
    model = clip_files(tmp_path / "clip", "config.json", "preprocessor_config.json")
    (tmp_path / "clip" / "tokenizer_config.json").write_text(CLIP_TOKENIZER)
    with pytest.raises(BadRequest, match=r"objective\.relation_model: .*has no vocabulary"):
        RelationModel(model).check()


@pytest.mark.parametrize(
    ("files", "problem"),
    [
        ({}, "tokenizer_config.json"),
        ({"tokenizer_config.json": CLIP_TOKENIZER}, "has no vocabulary"),
        ({"tokenizer_config.json": CLIP_TOKENIZER, "vocab.json": '{"a": 0}'}, "merges"),
    ],
)
def test_a_base_that_cannot_read_prompts_is_refused_before_anything_is_encoded(
    tmp_path: Path, files: dict[str, str], problem: str
) -> None:
    base = Path(shutil.copytree(MODELS / "base", tmp_path / "base"))
    shutil.rmtree(base / "tokenizer")
    (base / "tokenizer").mkdir()
    for name, content in files.items():
        (base / "tokenizer" / name).write_text(content)
    with pytest.raises(BadRequest, match=rf"(?s)base: .*/tokenizer gives no tokenizer .*{problem}"):
        Encoders(str(base)).check()


def test_a_base_without_safetensors_is_refused(tmp_path: Path) -> None:
    base = Path(shutil.copytree(MODELS / "base", tmp_path / "base"))
    (base / "vae" / "diffusion_pytorch_model.safetensors").unlink()
    with pytest.raises(BadRequest, match=r"base: .*/vae cannot be read"):
        Encoders(str(base)).encode([PICTURE])
