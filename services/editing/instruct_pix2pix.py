"""InstructPix2Pix (arXiv 2211.09800): the source's latents, unscaled, beside the noisy ones."""

from collections.abc import Sequence
from functools import partial
from typing import Any

from diffusers import StableDiffusionInstructPix2PixPipeline
from PIL import Image

from retouche.profile import EditingProfile
from services.adapters import wear
from services.diffusion import generators, pixel_step
from services.editing.editor import Edit, Editor, in_size, in_steps
from services.full_batches import in_full_batches
from services.loading import load_pipeline

_KIND = StableDiffusionInstructPix2PixPipeline


def load(profile: EditingProfile) -> Editor:
    """The editor that the profile names."""
    pipeline = load_pipeline(_KIND, profile, (_KIND.__name__,))
    return in_full_batches(partial(_run, pipeline), profile.max_batch)


def _run(pipeline: Any, edits: Sequence[Edit]) -> list[Image.Image]:
    first = edits[0].request
    wear(pipeline, first.adapter)
    edited = pipeline(
        prompt=[edit.text for edit in edits],
        image=in_steps(edits, pixel_step(pipeline)),
        num_inference_steps=first.num_inference_steps,
        guidance_scale=first.guidance_scale,
        image_guidance_scale=first.image_guidance_scale,
        generator=generators([edit.request.seed for edit in edits]),
    ).images
    return in_size(edited, edits)
