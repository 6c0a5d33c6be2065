"""The card is published: what it says of how the pairs were made, and of people, holds for these pairs."""

from datetime import UTC, datetime
from typing import Any

import pytest

from retouche.contract.jobs import Job, JobReport, PreferencePair
from retouche.contract.reviews import Decision, Review
from retouche.export.card import Statistics, card
from tests.gateway.shards import pair

NOW = datetime(2026, 1, 1, tzinfo=UTC)


def made(number: int, decision: Decision | None = None, without: tuple[str, ...] = ()) -> PreferencePair:
    """A pair as it is exported: with the decision about it, if any; `without` a model for these stages."""
    exported = pair(f"pair-{number}", number)
    fields: dict[str, Any] = {
        "models": exported.models.model_copy(update=dict.fromkeys(without)),
        "critique": None if "critique" in without else exported.critique,
    }
    if decision is not None:
        fields["review"] = Review(pair=exported.id, decision=decision, reviewer="Ada", at=NOW)
    return exported.model_copy(update=fields)


def said_of(*pairs: PreferencePair) -> str:
    job = Job(
        id="job-0123456789abcdef",
        state="finished",
        created_at=NOW,
        prompts=len(pairs),
        images_per_prompt=1,
        shards=1,
        shards_finished=1,
        report=JobReport(pairs=len(pairs)),
    )
    statistics = Statistics(prompts=len(pairs))
    for exported in pairs:
        statistics.add("train", exported)
    return card(job, statistics)


STYLE = ("critique", "instruction")


@pytest.mark.parametrize(
    ("without", "says"),
    [
        ((), "a picture is generated, criticised and edited, and reward models say which"),
        (("generation",), "an existing picture is criticised and edited, and reward models say which"),
        (STYLE, "a picture is generated and edited by one instruction, the same for all, and the edited"),
        (("generation", *STYLE), "an existing picture is edited by one instruction, the same for all"),
    ],
    ids=["prompts", "images", "style", "images and style"],
)
def test_how_the_two_pictures_came_to_be(without: tuple[str, ...], says: str) -> None:
    text = said_of(made(0, without=without))
    assert says in text
    assert ("a picture is generated" in text) == ("generation" not in without)
    for what in ("reward models say which", "criticised", "the critique, the instruction"):
        assert (what in text) == ("critique" not in without)


@pytest.mark.parametrize(
    ("decisions", "says"),
    [
        ((None, None), "No label is a person's decision."),
        (
            ("accept", None, "flip", None, "accept"),
            "People then reviewed 3 of these pairs: they accepted 2 and flipped 1; no other label is",
        ),
        (("accept", "flip"), "People then reviewed all of these pairs: they accepted 1 and flipped 1."),
    ],
    ids=["none", "some", "all"],
)
def test_what_people_decided_is_counted(decisions: tuple[Decision | None, ...], says: str) -> None:
    text = said_of(*(made(number, decision) for number, decision in enumerate(decisions)))
    assert says in text
    assert ("No label is" in text) == (not any(decisions))
