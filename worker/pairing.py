"""Which images become a preference pair, and why.

Every edit is compared with the image it was made from. Each reward model votes for the better one if the raw
scores differ by more than its margin; the agreement rule turns the votes into a verdict. An edit that won is
chosen over its original; an edit that lost makes the original the chosen one, if relabelling is on. Of the
pairs of one image those whose edit won come first, and of these the clearest.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from retouche.contract.jobs import Agreement, DropReason

Scores = Mapping[str, float]
Verdict = Literal["edit", "original", "tie", "disagreement"]


@dataclass(frozen=True)
class Judgement:
    """What the reward models make of an edit against its original.

    `mean`: the difference of the scores, edit minus original, each divided by its margin where it has one.
    """

    verdict: Verdict
    mean: float

    @property
    def clarity(self) -> float:
        """How far the mean supports the verdict: negative where a minority outweighs those that decided."""
        return -self.mean if self.verdict == "original" else self.mean


def judge(original: Scores, edit: Scores, margins: Mapping[str, float], agreement: Agreement) -> Judgement:
    """Compare an edit with its original by the reward models that `margins` names."""
    differences = {name: edit[name] - original[name] for name in margins}
    scaled = [difference / (margins[name] or 1.0) for name, difference in differences.items()]
    mean = sum(scaled) / len(scaled)
    if agreement == "mean":
        beyond = 1.0 if all(margins.values()) else 0.0
        verdict: Verdict = "edit" if mean > beyond else "original" if mean < -beyond else "tie"
        return Judgement(verdict, mean)
    votes = [_vote(difference, margins[name]) for name, difference in differences.items()]
    return Judgement(_count(votes, agreement), mean)


def outcomes(
    judgements: Sequence[Judgement], relabel: bool, pairs_per_image: int
) -> list[Literal["pair"] | DropReason]:
    """What becomes of each edit of one image, in their order."""
    found: list[Literal["pair"] | DropReason] = [_outcome(judgement, relabel) for judgement in judgements]
    candidates = [index for index, outcome in enumerate(found) if outcome == "pair"]
    # Edits that came out better first: they show what right looks like, a lost one only what is worse.
    candidates.sort(
        key=lambda index: (judgements[index].verdict != "edit", -judgements[index].clarity, index)
    )
    for index in candidates[pairs_per_image:]:
        found[index] = "not_best"
    return found


def _vote(difference: float, margin: float) -> int:
    return (difference > margin) - (difference < -margin)


def _count(votes: Sequence[int], agreement: Agreement) -> Verdict:
    """`all`: every model votes the same way; `majority`: more than half do, and more than the other way."""
    if not any(votes):
        return "tie"
    won, lost = votes.count(1), votes.count(-1)
    needed = len(votes) if agreement == "all" else len(votes) // 2 + 1
    if won >= needed:
        return "edit"
    if lost >= needed:
        return "original"
    return "disagreement" if won and lost else "tie"


def _outcome(judgement: Judgement, relabel: bool) -> Literal["pair"] | DropReason:
    if judgement.verdict == "edit":
        return "pair"
    if judgement.verdict == "original":
        return "pair" if relabel else "edit_worse"
    return judgement.verdict
