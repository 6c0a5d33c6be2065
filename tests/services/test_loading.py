"""A diffusion pipeline that is not what it should be is named before anything is served."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import AutoPipelineForText2Image
from fastapi import FastAPI, Response
from safetensors.torch import load_file, save_file

from retouche.errors import ModelFailure
from retouche.profile import ModelChoice
from services.loading import load_pipeline
from tests.live import live
from tests.services.small_pipelines import write_stable_diffusion

UNET, READER = "unet/diffusion_pytorch_model.safetensors", "text_encoder/model.safetensors"


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return Path(write_stable_diffusion(tmp_path_factory.mktemp("models") / "whole"))


def refused(folder: Path) -> str:
    with pytest.raises(ModelFailure) as raised:
        load_pipeline(AutoPipelineForText2Image, ModelChoice(model=str(folder)))
    return raised.value.detail


def weights(file: Path) -> dict[str, torch.Tensor]:
    """Copies: what is read from a file must not hang on it."""
    return {name: tensor.clone() for name, tensor in load_file(file).items()}


def two_missing(folder: Path) -> None:
    kept = weights(folder / UNET)
    del kept["conv_in.weight"], kept["conv_in.bias"]
    save_file(kept, folder / UNET)


def another_width(folder: Path) -> None:
    changed = weights(folder / UNET)
    changed["conv_in.weight"] = changed["conv_in.weight"][:, :2].contiguous()
    save_file(changed, folder / UNET)


def another_model(folder: Path) -> None:
    shutil.copy(folder / "vae/diffusion_pytorch_model.safetensors", folder / READER)


def a_pickle(folder: Path) -> None:
    torch.save(weights(folder / UNET), folder / UNET.replace("safetensors", "bin"))
    (folder / UNET).unlink()


def a_pickle_renamed(folder: Path) -> None:
    torch.save(weights(folder / UNET), folder / UNET)


def a_readers_pickle_renamed(folder: Path) -> None:
    torch.save(weights(folder / READER), folder / READER)


def no_autoencoder(folder: Path) -> None:
    shutil.rmtree(folder / "vae")


def no_index(folder: Path) -> None:
    (folder / "model_index.json").unlink()


@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        (two_missing, "unet does not hold the tensors of UNet2DConditionModel: 2 missing (conv_in.bias, con"),
        (another_width, "1 of another shape (conv_in.weight is [32, 2, 3, 3], not [32, 4, 3, 3])"),
        (another_model, "text_encoder does not hold the tensors of CLIPTextModel: 20 missing"),
        (a_pickle, "unet: diffusion_pytorch_model.bin is a pickle, which may run code when it is read"),
        (a_pickle_renamed, "unet: its weights are not a safetensors file"),
        (a_readers_pickle_renamed, "text_encoder: its weights are not a safetensors file"),
        (no_autoencoder, "vae cannot be read: Error no file named config.json"),
        (no_index, "cannot be read: Error no file named model_index.json"),
    ],
)
def test_what_is_wrong_with_a_pipeline_is_named(
    whole: Path, tmp_path: Path, spoil: Callable[[Path], None], says: str
) -> None:
    folder = tmp_path / "spoilt"
    shutil.copytree(whole, folder)
    spoil(folder)
    detail = refused(folder)
    assert str(folder) in detail
    assert says in detail


def naming(whole: Path, folder: Path, **parts: list[str]) -> Path:
    """A copy of the whole pipeline whose index names other classes."""
    shutil.copytree(whole, folder)
    index = json.loads((folder / "model_index.json").read_text())
    (folder / "model_index.json").write_text(json.dumps(index | parts))
    return folder


def test_an_older_pipeline_is_served_whatever_class_its_checker_had(whole: Path, tmp_path: Path) -> None:
    """Stable Diffusion 1.4 and its tunes name one that transformers 5 has no more, for what is left out."""
    parts = {
        "feature_extractor": ["transformers", "CLIPFeatureExtractor"],
        "safety_checker": ["stable_diffusion", "StableDiffusionSafetyChecker"],
    }
    choice = ModelChoice(model=str(naming(whole, tmp_path / "old", **parts)))
    pipeline: Any = load_pipeline(AutoPipelineForText2Image, choice)
    assert pipeline.feature_extractor is pipeline.safety_checker is None


def test_a_part_of_a_class_that_is_not_there_is_named(whole: Path, tmp_path: Path) -> None:
    detail = refused(naming(whole, tmp_path / "gone", text_encoder=["transformers", "CLIPReader"]))
    assert f"{tmp_path}/gone/text_encoder is a CLIPReader, which transformers" in detail
    assert "model_index.json" in detail


def test_a_pipeline_of_another_kind_is_named(whole: Path) -> None:
    with pytest.raises(ModelFailure, match=r"whole is a StableDiffusionPipeline; .* needs a FluxPipeline"):
        load_pipeline(AutoPipelineForText2Image, ModelChoice(model=str(whole)), ("FluxPipeline",))


ASK = """
from retouche.errors import ModelFailure
from retouche.profile import GenerationProfile, RewardChoice
from services.generation import model as generation
from services.reward import model as reward
sizes = {"width": 64, "height": 64, "num_inference_steps": 1, "guidance_scale": 1}
for model in ("some/gated", "some/absent"):
    profile = GenerationProfile(model=model, **sizes)
    rewards = {"a": RewardChoice(kind="pickscore", model=model)}
    for load in (lambda: generation.load(profile), lambda: reward.load(rewards)):
        try:
            load()
        except ModelFailure as error:
            print(error.detail)
"""


def test_a_gated_model_without_a_token_is_told_apart_from_one_that_is_not_there(tmp_path: Path) -> None:
    hub = FastAPI()

    @hub.api_route("/{path:path}", methods=["GET", "HEAD"])
    def answer(path: str) -> Response:
        gated = "gated" in path
        headers = {"X-Error-Code": "GatedRepo" if gated else "RepoNotFound"}
        return Response(status_code=401 if gated else 404, headers=headers)

    with live(hub) as url:
        environment = {**os.environ, "HF_ENDPOINT": url, "HF_HOME": str(tmp_path), "HF_HUB_OFFLINE": "0"}
        command = [sys.executable, "-c", ASK]
        done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    generated, scored, *absent = done.stdout.splitlines()
    for told in (generated, scored):
        assert told.startswith("some/gated is gated: accept its licence at https://huggingface.co/some/gated")
        assert "set HF_TOKEN" in told
    assert len(absent) == 2
    assert all("some/absent is neither a folder here nor a public repository" in told for told in absent)
