"""What a run gives is what was trained."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from diffusers import StableDiffusionPipeline, UNet2DConditionModel

from retouche.contract.payload import ModelIdentity
from retouche.contract.runs import DiffusionDpo, Full, Lora, RunResult, TrainingMetrics
from retouche.errors import BadRequest
from shapes.train.loop import MODELS
from tests.trainer.tiny import policy, spec
from trainer.artifacts import check_parts, save_adapter, write
from trainer.checkpoints import save_tensors
from trainer.policy import load

RESULT = RunResult(
    base=ModelIdentity(id="base", revision="0"),
    steps=1,
    pairs=1,
    data_digest="sha256:" + "0" * 64,
    metrics=TrainingMetrics.model_validate(dict.fromkeys(TrainingMetrics.model_fields, 1)),
    seconds=1.0,
)


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


@pytest.fixture
def base(tmp_path: Path) -> Path:
    """A Stable Diffusion whose index names a safety checker that the folder does not have."""
    folder = Path(shutil.copytree(MODELS / "base", tmp_path / "base"))
    index = json.loads((folder / "model_index.json").read_text()) | {
        "safety_checker": ["stable_diffusion", "StableDiffusionSafetyChecker"],
        "feature_extractor": ["transformers", "CLIPImageProcessor"],
        "requires_safety_checker": True,
    }
    (folder / "model_index.json").write_text(json.dumps(index))
    return folder


def test_a_base_without_its_safety_checker_ends_as_a_pipeline(base: Path, tmp_path: Path) -> None:
    check_parts(str(base))
    trained = load(str(base), Full(), seed=0)
    save_tensors(
        {name: weight.data for name, weight in trained.trainable().items()}, tmp_path / "weights.safetensors"
    )
    made = write(tmp_path, spec(DiffusionDpo()), str(base), trained, RESULT)
    assert StableDiffusionPipeline.from_pretrained(made).safety_checker is None
    assert "It has no safety checker" in (made / "README.md").read_text()


@pytest.mark.parametrize("part", ["model_index.json", "vae/config.json", "tokenizer/tokenizer.json"])
def test_a_base_that_lacks_a_part_of_the_pipeline_is_refused_before_it_is_trained(
    base: Path, part: str
) -> None:
    (base / part).unlink()
    with pytest.raises(BadRequest, match=r"base: .* makes no pipeline"):
        check_parts(str(base))


def changed(file: str, **values: object) -> Callable[[Path], object]:
    """Changes a JSON file of a base."""

    def change(base: Path) -> None:
        (base / file).write_text(json.dumps(json.loads((base / file).read_text()) | values))

    return change


@pytest.mark.parametrize(
    "damage",
    [
        lambda base: (base / "text_encoder" / "model.safetensors").write_text("version https://git-lfs"),
        changed("text_encoder/config.json", hidden_size=256),
        changed("model_index.json", _class_name="NoPipeline"),
        lambda base: (base / "tokenizer" / "tokenizer.json").write_text("{}"),
    ],
    ids=["pointer of git-lfs", "other shape", "unknown class", "tokenizer"],
)
def test_a_base_with_a_damaged_part_is_refused_before_it_is_trained(
    base: Path, damage: Callable[[Path], object]
) -> None:
    damage(base)
    with pytest.raises(BadRequest, match=r"base: .* makes no pipeline"):
        check_parts(str(base))
