"""The base model: prompts to images."""

from collections.abc import Hashable, Sequence
from typing import Any

from diffusers import AutoPipelineForText2Image
from PIL import Image

from retouche.contract.stages import GenerateRequest
from retouche.errors import FieldProblem, InvalidPayload
from retouche.profile import GenerationProfile
from services.adapters import wear
from services.diffusion import generators, load_pipeline, pictures


def load(profile: GenerationProfile) -> Any:
    """The pipeline that the profile names."""
    return load_pipeline(AutoPipelineForText2Image, profile)


def resolved(request: GenerateRequest, profile: GenerationProfile, pipeline: Any) -> GenerateRequest:
    """The request with the profile's values where it names none.

    Raises:
        InvalidPayload: a side is not a multiple of what the pipeline's latents need.
    """
    defaults = {
        name: getattr(profile, name)
        for name in ("width", "height", "num_inference_steps", "guidance_scale")
        if getattr(request, name) is None
    }
    complete = request.model_copy(update=defaults)
    step = pipeline.vae_scale_factor * 2 ** (len(pipeline.unet.config.block_out_channels) - 1)
    for name in ("width", "height"):
        if getattr(complete, name) % step:
            problem = f"must be a multiple of {step} pixels for this model, not {getattr(complete, name)}"
            raise InvalidPayload(f"{name}: {problem}", fields=[FieldProblem(field=name, problem=problem)])
    return complete


def batch_key(request: GenerateRequest) -> Hashable:
    """Requests with equal keys can share a batch."""
    return (
        request.adapter,
        request.width,
        request.height,
        request.num_inference_steps,
        request.guidance_scale,
    )


def generate(pipeline: Any, requests: Sequence[GenerateRequest]) -> list[Image.Image]:
    """One image a request; all with the same key."""
    first = requests[0]
    wear(pipeline, first.adapter)
    images = pipeline(
        prompt=[request.prompt for request in requests],
        negative_prompt=[request.negative_prompt for request in requests],
        width=first.width,
        height=first.height,
        num_inference_steps=first.num_inference_steps,
        guidance_scale=first.guidance_scale,
        generator=generators([request.seed for request in requests]),
    ).images
    return pictures(images)
