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
    """An instruction-following editor: as many images as edits, in their order."""

    def __call__(self, edits: Sequence[Edit]) -> list[Image.Image]: ...


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
