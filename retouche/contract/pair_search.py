"""Looking for pairs among many: what to ask for, and what is found."""

from typing import Annotated, Literal

from pydantic import Field, StringConstraints

from retouche.contract.jobs import PreferencePair
from retouche.contract.payload import Frozen, Payload
from retouche.contract.reviews import Decision
from retouche.contract.stages import Action, RewardName

PairOrder = Literal["curated", "margin", "disagreement"]


class PairQuery(Frozen):
    """Which pairs of a job, in which order.

    A reward model's margin is its score of the chosen image minus that of the rejected one. Scales differ, so
    a margin over all reward models is the mean of theirs, each divided by its root mean square over the
    job's pairs; their disagreement is how far the largest lies above the smallest of these.
    """

    text: Annotated[str, StringConstraints(max_length=200)] = Field(
        default="", description="words that stand in prompt, instruction or critique, in any case"
    )
    action: Action | None = Field(default=None, description="the kind of instruction")
    reward: RewardName | None = Field(
        default=None, description="whose margin, as raw scores; none: over all reward models"
    )
    min_margin: float | None = None
    max_margin: float | None = None
    min_disagreement: Annotated[float, Field(ge=0)] | None = None
    decision: Literal["any", "none", "accept", "reject", "flip"] = "any"
    order: PairOrder = "curated"
    descending: bool = False
    offset: Annotated[int, Field(ge=0)] = 0
    limit: Annotated[int, Field(ge=1, le=100)] = 24


class FoundPair(Payload):
    """A pair as curated, with the decision about it; a flip is not carried out here."""

    pair: PreferencePair
    margin: float
    disagreement: float


class PairSearch(Payload):
    """A page of what was found, and what there is to ask for."""

    total: int = Field(description="pairs found, on all pages")
    pairs: list[FoundPair]
    rewards: list[RewardName] = Field(description="the reward models that scored the job's pairs")
    actions: list[Action] = Field(description="the kinds of instruction among the job's pairs")
    decided: dict[Decision, int] = Field(description="how many of the job's pairs are decided, and how")
