"""The one verb of every editor, and the request it gets, every default resolved."""

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import Protocol

from PIL import Image

from retouche.contract.stages import EditRequest


@dataclass(frozen=True)
class Edit:
    """An image, what the editor is told, and how; `request` has every parameter filled in."""

    image: Image.Image
    text: str
    request: EditRequest


class Editor(Protocol):
    """An instruction-following editor: as many images as edits, in their order, each as large as its source.

    An edit's image is the same in any company; all edits of a call have the same `batch_key`.
    """

    def __call__(self, edits: Sequence[Edit], /) -> list[Image.Image]: ...


def batch_key(edit: Edit) -> Hashable:
    """Edits with equal keys can share a batch."""
    request = edit.request
    return (
        request.adapter,
        edit.image.size,
        request.num_inference_steps,
        request.guidance_scale,
        request.image_guidance_scale,
        request.strength,
        request.controlnet_conditioning_scale,
    )


def in_steps(edits: Sequence[Edit], step: int) -> list[Image.Image]:
    """The sources, their sides made the nearest multiples of `step` pixels, and not less than one."""
    width, height = (max(step, round(side / step) * step) for side in edits[0].image.size)
    return [edit.image.resize((width, height), Image.Resampling.LANCZOS) for edit in edits]


def in_size(edited: Sequence[Image.Image], edits: Sequence[Edit]) -> list[Image.Image]:
    """A pipeline's output as RGB, each as large as its source."""
    return [
        image.convert("RGB").resize(edit.image.size, Image.Resampling.LANCZOS)
        for image, edit in zip(edited, edits, strict=True)
    ]
