"""What every reward model does: score images, and place them where its kind has a space for them."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import chain, filterfalse
from math import isfinite
from typing import Any

import torch
from PIL import Image

from retouche.contract.stages import Score
from retouche.errors import ModelFailure
from retouche.profile import RewardChoice
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


def scores(choice: RewardChoice, raw_B: torch.Tensor, published_B: torch.Tensor) -> list[Score]:
    """What a model gave for a batch.

    Raises:
        ModelFailure: a score is not finite.
    """
    pairs = list(zip(raw_B.tolist(), published_B.tolist(), strict=True))
    require_finite(choice, chain.from_iterable(pairs))
    return [Score(raw=raw, published=published) for raw, published in pairs]


def require_finite(choice: RewardChoice, numbers: Iterable[float]) -> None:
    """Nothing, where what a model gave is numbers.

    Raises:
        ModelFailure: one is NaN or infinite.
    """
    for number in filterfalse(isfinite, numbers):
        raise ModelFailure(
            f"{choice.kind} {choice.model} gave {number} in {choice.dtype}: give it `dtype: float32` in the "
            "profile; where it has that, its weights are damaged"
        )
