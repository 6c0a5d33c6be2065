"""InstructPix2Pix (arXiv 2211.09800): the source's latents, unscaled, beside the noisy ones."""

from collections.abc import Sequence
from typing import Any

from diffusers import StableDiffusionInstructPix2PixPipeline
from PIL import Image

from retouche.profile import EditingProfile
from services.adapters import wear
from services.diffusion import generators, load_pipeline, pictures
from services.editing.editor import Edit, Editor


def load(profile: EditingProfile) -> Editor:
    """The editor that the profile names."""
    pipeline = load_pipeline(StableDiffusionInstructPix2PixPipeline, profile)

    def run(edits: Sequence[Edit]) -> list[Image.Image]:
        return _run(pipeline, edits)

    return run


def _run(pipeline: Any, edits: Sequence[Edit]) -> list[Image.Image]:
    first = edits[0].request
    wear(pipeline, first.adapter)
    images = pipeline(
        prompt=[edit.text for edit in edits],
        image=[edit.image for edit in edits],
        num_inference_steps=first.num_inference_steps,
        guidance_scale=first.guidance_scale,
        image_guidance_scale=first.image_guidance_scale,
        generator=generators([edit.request.seed for edit in edits]),
    ).images
    return pictures(images)
