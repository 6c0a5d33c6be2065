"""Qwen-Image-Edit (Qwen/Qwen-Image-Edit, -2509, -2511): Qwen2.5-VL reads source and instruction together.

It edits at about a megapixel in the source's proportions, and takes one image at a time.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from diffusers import DiffusionPipeline
from PIL import Image
from transformers import AutoTokenizer, BatchFeature, Qwen2VLImageProcessorPil

from retouche.profile import EditingProfile, located
from services.adapters import wear
from services.checkpoint import unreadable
from services.diffusion import generators
from services.editing.editor import Edit, Editor, in_size
from services.loading import load_pipeline

_KINDS = ("QwenImageEditPlusPipeline", "QwenImageEditPipeline")
_NO_WORDS = " "  # what guidance leads away from, as published
_PICTURE = "<|image_pad|>"


def load(profile: EditingProfile) -> Editor:
    """The editor that the profile names."""
    pipeline = load_editor(profile)

    def run(edits: Sequence[Edit]) -> list[Image.Image]:
        return [_run(pipeline, edit) for edit in edits]

    return run


def load_editor(profile: EditingProfile) -> Any:
    """The pipeline, its text encoder told where the pictures are."""
    pipeline: Any = load_pipeline(DiffusionPipeline, profile, _KINDS, processor=_load_processor(profile))
    pipeline.text_encoder.register_forward_pre_hook(_mark_pictures, with_kwargs=True)
    return pipeline


@dataclass(frozen=True)
class Processor:
    """What Qwen2VLProcessor does for pictures; that class itself wants torchvision, for its videos."""

    tokenizer: Any
    image_processor: Qwen2VLImageProcessorPil

    def __call__(
        self, text: list[str], images: Sequence[Image.Image], padding: bool, return_tensors: str
    ) -> BatchFeature:
        """Token ids and patches of `images`; each stands in the texts where one picture token does."""
        pictures = self.image_processor(list(images), return_tensors=return_tensors)
        counts = iter(pictures.image_grid_thw.prod(-1) // self.image_processor.merge_size**2)
        parts = [each.split(_PICTURE) for each in text]
        texts = [
            first + "".join(_PICTURE * int(next(counts)) + other for other in others)
            for first, *others in parts
        ]
        return BatchFeature(
            {**self.tokenizer(texts, padding=padding, return_tensors=return_tensors), **pictures}
        )


def _load_processor(profile: EditingProfile) -> Processor:
    model, revision = located(profile.model), profile.revision or "main"
    try:
        return Processor(
            AutoTokenizer.from_pretrained(model, subfolder="tokenizer", revision=revision),
            Qwen2VLImageProcessorPil.from_pretrained(model, subfolder="processor", revision=revision),
        )
    except OSError as error:
        raise unreadable(profile.model, error) from None


def _mark_pictures(reader: Any, _: tuple[()], inputs: dict[str, Any]) -> tuple[tuple[()], dict[str, Any]]:
    """Say which tokens are a picture's: diffusers 0.42 does not (its issue 14194), and transformers 5 would
    give them places in a line instead of in a plane, without a word.
    """
    pictures: torch.Tensor = inputs["input_ids"] == reader.config.image_token_id
    return (), {**inputs, "mm_token_type_ids": pictures.int()}


def _run(pipeline: Any, edit: Edit) -> Image.Image:
    request = edit.request
    wear(pipeline, request.adapter)
    edited = pipeline(
        prompt=edit.text,
        negative_prompt=_NO_WORDS,
        image=edit.image,
        num_inference_steps=request.num_inference_steps,
        true_cfg_scale=request.guidance_scale,
        generator=generators([request.seed]),
    ).images
    return in_size(edited, [edit])[0]
