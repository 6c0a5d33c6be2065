"""FLUX.1 Kontext (black-forest-labs/FLUX.1-Kontext-dev): a flow that reads the source as further tokens.

It edits at about a megapixel, the size it was trained at, in the source's proportions.
"""

from collections.abc import Sequence
from functools import partial
from typing import Any

from diffusers import FluxKontextPipeline
from PIL import Image

from retouche.profile import EditingProfile
from services.adapters import wear
from services.diffusion import generators
from services.editing.editor import Edit, Editor, in_size
from services.full_batches import in_full_batches
from services.loading import load_pipeline


def load(profile: EditingProfile) -> Editor:
    """The editor that the profile names."""
    pipeline = load_pipeline(FluxKontextPipeline, profile, (FluxKontextPipeline.__name__,))
    return in_full_batches(partial(_run, pipeline), profile.max_batch)


def _run(pipeline: Any, edits: Sequence[Edit]) -> list[Image.Image]:
    first = edits[0].request
    wear(pipeline, first.adapter)
    width, height = edits[0].image.size
    edited = pipeline(
        prompt=[edit.text for edit in edits],
        image=[edit.image for edit in edits],
        width=width,
        height=height,
        num_inference_steps=first.num_inference_steps,
        guidance_scale=first.guidance_scale,
        generator=generators([edit.request.seed for edit in edits]),
    ).images
    return in_size(edited, edits)
