"""The base model: prompts to images."""

from collections.abc import Hashable, Sequence
from inspect import signature
from typing import Any

from diffusers import AutoencoderKL, AutoPipelineForText2Image
from PIL import Image

from retouche.contract.payload import ModelIdentity
from retouche.contract.stages import GenerateRequest
from retouche.errors import FieldProblem, InvalidPayload
from retouche.identity import identify, together
from retouche.profile import GenerationProfile, located
from services.adapters import wear
from services.checkpoint import load_part
from services.diffusion import generators, pixel_step
from services.loading import load_pipeline


def load(profile: GenerationProfile) -> Any:
    """The pipeline that the profile names: any that AutoPipelineForText2Image knows.

    Raises:
        ModelFailure: its weights are not all there, or it draws from no prompt; says which and why.
    """
    if profile.vae is None:
        return load_pipeline(AutoPipelineForText2Image, profile)
    vae = load_part(AutoencoderKL, profile.vae, profile.vae_revision, profile.dtype)
    return load_pipeline(AutoPipelineForText2Image, profile, vae=vae)


def identity(profile: GenerationProfile) -> ModelIdentity:
    """Who draws: the model, and the autoencoder that the profile gives it, if any."""
    model = identify(located(profile.model), profile.revision)
    if profile.vae is None:
        return model
    return together(model, identify(located(profile.vae), profile.vae_revision))


def resolved(request: GenerateRequest, profile: GenerationProfile, pipeline: Any) -> GenerateRequest:
    """The request with the profile's values where it names none.

    Raises:
        InvalidPayload: a side is not a multiple of what the pipeline's latents need, or the pipeline reads no
            negative prompt and one is given.
    """
    defaults = {
        name: getattr(profile, name)
        for name in ("width", "height", "num_inference_steps", "guidance_scale")
        if getattr(request, name) is None
    }
    complete = request.model_copy(update=defaults)
    step = pixel_step(pipeline)
    for name in ("width", "height"):
        if getattr(complete, name) % step:
            raise _invalid(
                name, f"must be a multiple of {step} pixels for this model, not {getattr(complete, name)}"
            )
    if complete.negative_prompt and not _reads_negative_prompts(pipeline):
        raise _invalid("negative_prompt", "this model's guidance is distilled and reads none; leave it out")
    return complete


def _invalid(field: str, problem: str) -> InvalidPayload:
    return InvalidPayload(f"{field}: {problem}", fields=[FieldProblem(field=field, problem=problem)])


def _reads_negative_prompts(pipeline: Any) -> bool:
    return "negative_prompt" in signature(pipeline.__call__).parameters and not _is_distilled(pipeline)


def _is_distilled(pipeline: Any) -> bool:
    """The guidance scale is an input of the model instead of a comparison with another prompt."""
    transformer = getattr(pipeline, "transformer", None)
    return bool(transformer is not None and transformer.config.get("guidance_embeds"))


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
        width=first.width,
        height=first.height,
        num_inference_steps=first.num_inference_steps,
        generator=generators([request.seed for request in requests]),
        **_guidance(pipeline, requests),
    ).images
    return [image.convert("RGB") for image in images]


def _guidance(pipeline: Any, requests: Sequence[GenerateRequest]) -> dict[str, Any]:
    """Guidance as this pipeline takes it: some call the classifier-free one by another name."""
    scale = requests[0].guidance_scale
    if not _reads_negative_prompts(pipeline):
        return {"guidance_scale": scale}
    other = "true_cfg_scale" in signature(pipeline.__call__).parameters
    negative = [request.negative_prompt for request in requests]
    return {"negative_prompt": negative, "true_cfg_scale" if other else "guidance_scale": scale}
