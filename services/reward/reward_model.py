"""What every reward model does: score images, and place them where its kind has a space for them."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from PIL import Image

from retouche.contract.stages import Score
from services.reward.judged import Judged
from serving.steps import Step


@dataclass(frozen=True)
class RewardModel(Step[Judged, Any, Score]):
    """As many scores as there are images, in their order."""

    features: Step[Image.Image, Any, list[float]] | None = None


def prompts_of(batch: Sequence[Judged]) -> list[str]:
    return [judged.prompt for judged in batch]


def images_of(batch: Sequence[Judged]) -> list[Image.Image]:
    return [judged.image for judged in batch]


def scores(raw_B: torch.Tensor, published_B: torch.Tensor) -> list[Score]:
    """What a model gave for a batch."""
    pairs = zip(raw_B.tolist(), published_B.tolist(), strict=True)
    return [Score(raw=raw, published=published) for raw, published in pairs]
