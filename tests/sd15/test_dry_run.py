"""The whole of `sd15` on the meta device: real configurations, published tensors, our own loaders."""

from collections.abc import Iterator
from math import prod
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import StableDiffusionControlNetPipeline
from transformers import AutoModelForImageTextToText

from retouche.conversion.llava_layout import LlavaConfig, VisionSizes, needed, renamed
from retouche.errors import ModelFailure
from retouche.profile import Profile, load_profile
from retouche.requirements import known_models
from services.editing import controlnet
from services.generation import model as generation
from services.reward import model as reward
from tests.sd15.checkpoints import WEIGHTS, write_holes, write_sd15

BATCH, PROMPT = 2, "a red circle"
PUBLISHED = {  # parameters
    "unet": 859_520_964,
    "vae": 83_653_863,
    "text_encoder": 123_060_480,
    "controlnet": 361_279_120,
}


@pytest.fixture(scope="module")
def profile(tmp_path_factory: pytest.TempPathFactory) -> Profile:
    return load_profile(str(write_sd15(tmp_path_factory.mktemp("sd15"))))


@pytest.fixture
def nowhere() -> Iterator[None]:
    """Everything is loaded onto the meta device."""
    with torch.device("meta"):
        yield


def parameters(model: Any) -> int:
    return sum(weight.numel() for weight in model.parameters())


def read(pipeline: Any) -> torch.Tensor:
    """What the UNet is told of a prompt."""
    embeddings, _ = pipeline.encode_prompt([PROMPT] * BATCH, torch.device("meta"), 1, False)
    assert isinstance(embeddings, torch.Tensor)
    return embeddings


@pytest.mark.parametrize("name", WEIGHTS)
def test_published_tensors_add_up_to_what_doctor_says(name: str) -> None:
    counted = sum(
        prod(shape)
        for tensors, _ in WEIGHTS[name].values()
        for tensor, shape in tensors.items()
        if not tensor.endswith("position_ids")
    )
    unused = 459_264 if name == "models/ImageReward" else 0  # projections of BLIP's own training
    assert counted - unused == known_models()[name].parameters


@pytest.mark.usefixtures("nowhere")
def test_the_base_model_draws(profile: Profile) -> None:
    pipeline = generation.load(profile.generation)
    for part in ("unet", "vae", "text_encoder"):
        assert parameters(getattr(pipeline, part)) == PUBLISHED[part]
    assert pipeline.safety_checker is None
    latents_BCHW = torch.empty(BATCH, 4, 64, 64, dtype=torch.float16)
    noise_BCHW = pipeline.unet(latents_BCHW, 1, encoder_hidden_states=read(pipeline)).sample
    assert (noise_BCHW.shape, noise_BCHW.dtype) == (latents_BCHW.shape, torch.float16)
    assert pipeline.vae.decode(noise_BCHW).sample.shape == (BATCH, 3, 512, 512)


@pytest.mark.usefixtures("nowhere")
def test_the_controlnet_steers_the_base_model(profile: Profile) -> None:
    pipeline = controlnet.load_editor(StableDiffusionControlNetPipeline, profile.editing)
    assert parameters(pipeline.controlnet) == PUBLISHED["controlnet"]
    told_BTD = read(pipeline)
    latents_BCHW = torch.empty(BATCH, 4, 64, 64, dtype=torch.float16)
    source_BCHW = torch.empty(BATCH, 3, 512, 512, dtype=torch.float16)
    down, mid = pipeline.controlnet(latents_BCHW, 1, told_BTD, source_BCHW, return_dict=False)
    noise_BCHW = pipeline.unet(
        latents_BCHW,
        1,
        encoder_hidden_states=told_BTD,
        down_block_additional_residuals=down,
        mid_block_additional_residual=mid,
    ).sample
    assert noise_BCHW.shape == latents_BCHW.shape


@pytest.mark.usefixtures("nowhere")
@pytest.mark.parametrize("kind", ["pickscore", "imagereward", "hpsv2", "aesthetic"])
def test_a_reward_takes_its_published_checkpoint(profile: Profile, kind: str) -> None:
    assert set(reward.load({kind: profile.rewards[kind]})) == {kind}


@pytest.mark.usefixtures("nowhere")
def test_one_missing_tensor_of_the_published_ones_is_missed(profile: Profile, tmp_path: Path) -> None:
    tensors, dtype = WEIGHTS["models/HPSv2"]["model"]
    missing = "visual.transformer.resblocks.31.attn.in_proj_bias"
    write_holes(tmp_path / "model.safetensors", {k: v for k, v in tensors.items() if k != missing}, dtype)
    with pytest.raises(ModelFailure, match=rf"1 missing \({missing}\)"):
        reward.load({"hpsv2": profile.rewards["hpsv2"].model_copy(update={"model": str(tmp_path)})})


@pytest.mark.parametrize("stage", ["critique", "instruction"])
def test_a_vision_language_model_is_what_transformers_and_vllm_load(profile: Profile, stage: str) -> None:
    """vLLM serves both from these very folders; here its class of transformers takes all their tensors."""
    served = getattr(profile, stage)
    assert served.backend == "openai"
    load: Any = AutoModelForImageTextToText.from_pretrained  # typed as if it never gave a report
    model, report = load(
        served.model, device_map={"": "meta"}, dtype=torch.bfloat16, output_loading_info=True
    )
    assert not any(report.values()), report
    assert type(model).__name__ == model.config.architectures[0]
    assert parameters(model) == known_models()["/".join(Path(served.model).parts[-2:])].parameters


def test_the_conversion_of_llava_critic_ends_in_these_tensors() -> None:
    config = LlavaConfig(
        architectures=("LlavaQwenForCausalLM",),
        hidden_size=3584,
        intermediate_size=18_944,
        num_hidden_layers=28,
        num_attention_heads=28,
        num_key_value_heads=4,
        vocab_size=152_064,
        mm_projector_type="mlp2x_gelu",
        mm_patch_merge_type="spatial_unpad",
        image_aspect_ratio="anyres_max_9",
        image_grid_pinpoints=[(384, 384)],
    )
    tower = VisionSizes(hidden_size=1152, intermediate_size=4304, patch_size=14, positions=729)
    converted = {renamed(name): shape for name, shape in needed(config, tower).items()}
    published, _ = WEIGHTS["models/llava-critic-7b"]["model"]
    assert converted == published
