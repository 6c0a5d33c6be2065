"""The one verb of every reward model."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from PIL import Image

from retouche.contract.stages import Score


@dataclass(frozen=True)
class Judged:
    """One image to be scored under one prompt."""

    prompt: str
    image: Image.Image


class RewardModel(Protocol):
    """As many scores as there are images, in their order."""

    def __call__(self, batch: Sequence[Judged], /) -> list[Score]: ...


def scores(raw_B: torch.Tensor, published_B: torch.Tensor) -> list[Score]:
    """What a model gave for a batch."""
    pairs = zip(raw_B.tolist(), published_B.tolist(), strict=True)
    return [Score(raw=raw, published=published) for raw, published in pairs]
