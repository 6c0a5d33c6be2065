"""ControlNet ip2p (lllyasviel/control_v11e_sd15_ip2p): the raw source is the control image.

Plain, the picture is drawn from noise; img2img starts from the noised source, which keeps more of it.
"""

from collections.abc import Sequence
from typing import Any

import torch
from diffusers import (
    ControlNetModel,
    StableDiffusionControlNetImg2ImgPipeline,
    StableDiffusionControlNetPipeline,
)
from PIL import Image

from retouche.errors import BadRequest
from retouche.profile import EditingProfile, located
from services.adapters import wear
from services.diffusion import generators, load_pipeline, pictures
from services.editing.editor import Edit, Editor


def load(profile: EditingProfile) -> Editor:
    """The editor that the profile names: its `controlnet` on its `model`."""
    if profile.controlnet is None:
        raise BadRequest(f"editing.controlnet: {profile.editor} needs one; name a folder or Hub id")
    controlnet = ControlNetModel.from_pretrained(
        located(profile.controlnet), use_safetensors=True, dtype=getattr(torch, profile.dtype)
    )
    from_source = profile.editor == "controlnet_ip2p_img2img"
    kind = StableDiffusionControlNetImg2ImgPipeline if from_source else StableDiffusionControlNetPipeline
    pipeline = load_pipeline(kind, profile, controlnet=controlnet)

    def run(edits: Sequence[Edit]) -> list[Image.Image]:
        return _run(pipeline, edits, from_source)

    return run


def _run(pipeline: Any, edits: Sequence[Edit], from_source: bool) -> list[Image.Image]:
    first, sources = edits[0].request, [edit.image for edit in edits]
    wear(pipeline, first.adapter)
    start = (
        {"image": sources, "control_image": sources, "strength": first.strength}
        if from_source
        else {"image": sources}
    )
    images = pipeline(
        prompt=[edit.text for edit in edits],
        num_inference_steps=first.num_inference_steps,
        guidance_scale=first.guidance_scale,
        controlnet_conditioning_scale=first.controlnet_conditioning_scale,
        generator=generators([edit.request.seed for edit in edits]),
        **start,
    ).images
    return pictures(images)
