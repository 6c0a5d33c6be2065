"""ControlNet ip2p (lllyasviel/control_v11e_sd15_ip2p): the raw source is the control image.

Plain, the picture is drawn from noise; img2img starts from the noised source, which keeps more of it.
"""

from collections.abc import Sequence
from typing import Any

from diffusers import (
    ControlNetModel,
    StableDiffusionControlNetImg2ImgPipeline,
    StableDiffusionControlNetPipeline,
)
from PIL import Image

from retouche.errors import BadRequest, ModelFailure
from retouche.profile import EditingProfile
from services.adapters import wear
from services.checkpoint import load_part
from services.diffusion import generators, pixel_step
from services.editing.editor import Edit, Editor, in_size, in_steps
from services.full_batches import in_full_batches
from services.loading import load_pipeline

_SHARED = ("cross_attention_dim", "block_out_channels", "layers_per_block")  # by ControlNet and UNet


def load(profile: EditingProfile) -> Editor:
    """The editor that draws from noise: the profile's `controlnet` on its `model`."""
    pipeline = load_editor(StableDiffusionControlNetPipeline, profile)

    def run(edits: Sequence[Edit]) -> list[Image.Image]:
        return _run(pipeline, edits, {"image": in_steps(edits, pixel_step(pipeline))})

    return in_full_batches(run, profile.max_batch)


def load_img2img(profile: EditingProfile) -> Editor:
    """The editor that starts from the source."""
    pipeline = load_editor(StableDiffusionControlNetImg2ImgPipeline, profile)

    def run(edits: Sequence[Edit]) -> list[Image.Image]:
        sources, strength = in_steps(edits, pixel_step(pipeline)), edits[0].request.strength
        return _run(pipeline, edits, {"image": sources, "control_image": sources, "strength": strength})

    return in_full_batches(run, profile.max_batch)


def load_editor(kind: type[Any], profile: EditingProfile) -> Any:
    """The pipeline of `kind`: the profile's ControlNet on its base.

    Raises:
        BadRequest: the profile names no ControlNet.
        ModelFailure: the ControlNet was made for another base, or one of them is not what it should be.
    """
    if profile.controlnet is None:
        raise BadRequest(f"editing.controlnet: {profile.editor} needs one; name a folder or Hub id")
    controlnet = load_part(ControlNetModel, profile.controlnet, profile.controlnet_revision, profile.dtype)
    pipeline: Any = load_pipeline(kind, profile, ("StableDiffusionPipeline",), controlnet=controlnet)
    for name in _SHARED:
        wanted, given = controlnet.config[name], pipeline.unet.config[name]
        if wanted != given:
            raise ModelFailure(
                f"{profile.controlnet} was not made for {profile.model}: its {name} is {wanted}, not {given}"
            )
    return pipeline


def _run(pipeline: Any, edits: Sequence[Edit], images: dict[str, Any]) -> list[Image.Image]:
    first = edits[0].request
    wear(pipeline, first.adapter)
    edited = pipeline(
        prompt=[edit.text for edit in edits],
        num_inference_steps=first.num_inference_steps,
        guidance_scale=first.guidance_scale,
        controlnet_conditioning_scale=first.controlnet_conditioning_scale,
        generator=generators([edit.request.seed for edit in edits]),
        **images,
    ).images
    return in_size(edited, edits)
