"""A tuned model against its base: what both drew, what every scorer says of it."""

from typing import Self

from pydantic import model_validator

from retouche.contract.jobs import JobId
from retouche.contract.payload import Frozen, ImageRef, Prompt, RunId
from retouche.contract.stages import RewardName

TRUTH = "truth"  # the name of the truth's scores among those of the reward models


class Comparison(Frozen):
    """One prompt and seed, drawn by both models, and every score of both images."""

    prompt: Prompt
    seed: int
    base: ImageRef
    tuned: ImageRef
    base_scores: dict[str, float]
    tuned_scores: dict[str, float]


class Interval(Frozen):
    """An estimate and its 95% interval."""

    value: float
    low: float
    high: float

    def __format__(self, form: str) -> str:
        return f"{self.value:{form}} [{self.low:{form}}, {self.high:{form}}]"


class Judgement(Frozen):
    """What one scorer says: mean scores, their paired difference, and how often the tuned image wins.

    A tie counts as half a win.
    """

    base_mean: float
    tuned_mean: float
    difference: Interval
    win_rate: Interval


class StyleAlignment(Frozen):
    """How far base and tuned images are from a style job's chosen ones: Fréchet distances in the image space
    of a CLIP reward model, less is nearer (Style Alignment, arXiv 2406.06382)."""

    job: JobId
    reward: RewardName
    style_images: int
    base: float
    tuned: float


class Evaluation(Frozen):
    """A tuned model against its base."""

    run: RunId
    prompts: int
    images_per_prompt: int
    seed: int
    judgements: dict[str, Judgement]
    comparisons: list[Comparison]
    style: StyleAlignment | None = None

    @model_validator(mode="after")
    def _whole(self) -> Self:
        if len(self.comparisons) != self.prompts * self.images_per_prompt or not self.comparisons:
            raise ValueError("`comparisons` are not as many as `prompts` times `images_per_prompt`")
        names = set(self.judgements)
        if not names or any(
            {*one.base_scores} != names or {*one.tuned_scores} != names for one in self.comparisons
        ):
            raise ValueError("every comparison has the scores, base and tuned, that `judgements` are of")
        return self

    @property
    def first(self) -> str:
        """The score that counts most: the truth, where there is one."""
        return TRUTH if TRUTH in self.judgements else next(reversed(self.judgements))

    def most_changed(self, most: int) -> list[Comparison]:
        """The comparisons with the largest gains by that score, then those with the largest losses."""
        name = self.first
        ordered = sorted(self.comparisons, key=lambda one: one.base_scores[name] - one.tuned_scores[name])
        half = most // 2
        return ordered if len(ordered) <= most else ordered[:half] + ordered[-half:]

    @property
    def hacked(self) -> list[str]:
        """Reward models whose score surely rose while the truth did not: empty where there is no truth."""
        truth = self.judgements.get(TRUTH)
        if truth is None or truth.difference.high > 0:
            return []
        return [name for name, found in self.judgements.items() if name != TRUTH and found.difference.low > 0]
