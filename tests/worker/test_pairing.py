"""Which edits become pairs: the rule as a table."""

import pytest

from retouche.contract.jobs import Agreement
from worker.pairing import Judgement, Verdict, judge, outcomes

# Three reward models, each with its margin; the original scores 0 with all, the edit as the table says.
MARGINS = {"first": 0.1, "second": 0.1, "third": 0.1}


@pytest.mark.parametrize(
    ("agreement", "edit", "verdict"),
    [
        ("all", (0.2, 0.2, 0.2), "edit"),
        ("all", (-0.2, -0.2, -0.2), "original"),
        ("all", (0.2, 0.2, 0.0), "tie"),  # one abstains: not all agree, none contradicts
        ("all", (0.2, 0.2, -0.2), "disagreement"),
        ("all", (0.1, 0.1, 0.1), "tie"),  # exactly the margin is no difference
        ("all", (0.0, 0.0, 0.0), "tie"),
        ("majority", (0.2, 0.2, 0.0), "edit"),
        ("majority", (0.2, 0.2, -0.2), "edit"),
        ("majority", (-0.2, -0.2, 0.2), "original"),
        ("majority", (0.2, 0.0, 0.0), "tie"),  # one of three is not more than half
        ("majority", (0.2, 0.0, -0.2), "disagreement"),
        ("mean", (0.5, 0.2, -0.2), "edit"),  # (5 + 2 - 2) / 3 margins
        ("mean", (-0.5, -0.2, 0.2), "original"),
        ("mean", (0.2, 0.1, 0.0), "tie"),  # the mean is one margin: not beyond
        ("mean", (0.5, 0.0, -0.5), "tie"),
    ],
)
def test_votes_become_a_verdict(agreement: Agreement, edit: tuple[float, ...], verdict: Verdict) -> None:
    original = dict.fromkeys(MARGINS, 0.0)
    assert judge(original, dict(zip(MARGINS, edit, strict=True)), MARGINS, agreement).verdict == verdict


@pytest.mark.parametrize(("edit", "verdict"), [(1e-9, "edit"), (0.0, "tie"), (-1e-9, "original")])
@pytest.mark.parametrize("agreement", ["all", "majority", "mean"])
def test_without_a_margin_any_difference_counts(agreement: Agreement, edit: float, verdict: Verdict) -> None:
    assert judge({"only": 0.0}, {"only": edit}, {"only": 0.0}, agreement).verdict == verdict


@pytest.mark.parametrize(("sign", "verdict"), [(1, "edit"), (-1, "original")])
def test_clarity_is_the_mean_difference_in_margins(sign: int, verdict: Verdict) -> None:
    edit = {"a": sign * 0.2, "b": sign * 2.0}
    judgement = judge({"a": 0.0, "b": 0.0}, edit, {"a": 0.1, "b": 0.5}, "all")
    assert judgement.verdict == verdict
    assert judgement.clarity == pytest.approx((2 + 4) / 2)


@pytest.mark.parametrize("sign", [1, -1])
def test_a_verdict_that_the_mean_contradicts_is_less_clear_than_one_it_supports(sign: int) -> None:
    """Two of three decide by a hair against the third, which differs widely; or all three agree."""
    original = dict.fromkeys(MARGINS, 0.0)
    edits = [(0.11, 0.11, -3.0), (0.3, 0.3, 0.3)]
    scores = [dict(zip(MARGINS, (sign * score for score in edit), strict=True)) for edit in edits]
    judgements = [judge(original, edit, MARGINS, "majority") for edit in scores]
    assert outcomes(judgements, True, 1) == ["not_best", "pair"]


def test_reward_models_that_do_not_vote_are_not_asked() -> None:
    scores = {"votes": 1.0, "silent": -9.0}
    assert judge({"votes": 0.0, "silent": 0.0}, scores, {"votes": 0.1}, "all").verdict == "edit"


@pytest.mark.parametrize(
    ("verdicts", "relabel", "pairs_per_image", "expected"),
    [
        ([("edit", 1.0)], True, 1, ["pair"]),
        ([("original", -1.0)], True, 1, ["pair"]),
        ([("original", -1.0)], False, 1, ["edit_worse"]),
        ([("tie", 0.0), ("disagreement", 1.0)], True, 1, ["tie", "disagreement"]),
        ([("edit", 1.0), ("edit", 2.0)], True, 1, ["not_best", "pair"]),  # the clearest is kept
        ([("edit", 1.0), ("edit", 1.0)], True, 1, ["pair", "not_best"]),  # the first, where equally clear
        ([("original", -9.0), ("edit", 1.0)], True, 1, ["not_best", "pair"]),  # an edit that won goes first
        ([("original", -9.0), ("edit", 1.0)], True, 2, ["pair", "pair"]),
        ([("edit", -30.0), ("edit", 2.0)], True, 1, ["not_best", "pair"]),  # a style's win whatever the mean
        ([], True, 1, []),
    ],
)
def test_verdicts_become_outcomes(
    verdicts: list[tuple[Verdict, float]], relabel: bool, pairs_per_image: int, expected: list[str]
) -> None:
    judgements = [Judgement(verdict, mean) for verdict, mean in verdicts]
    assert outcomes(judgements, relabel, pairs_per_image) == expected
