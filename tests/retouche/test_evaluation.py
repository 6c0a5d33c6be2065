"""Base against tuned: what the figures mean."""

import asyncio
import random
from datetime import UTC, datetime

import httpx2
import pytest

from retouche.client import AsyncRetouche
from retouche.contract.evaluation import TRUTH, Comparison, Evaluation
from retouche.contract.runs import Run, RunSpec, TrainingData
from retouche.errors import BadPrompts, BadRequest, Conflict
from retouche.evaluation import bootstrap, evaluate, judge

IMAGE = "sha256:" + "0" * 64
RUN = Run(
    id="run-" + "0" * 16,
    state="running",
    created_at=datetime(2026, 1, 1, tzinfo=UTC),
    spec=RunSpec(data=TrainingData(pick_a_pic="/data")),
)


def comparisons(prompts: int, gain: float, truth_gain: float = 0.0) -> list[Comparison]:
    """Every tuned image scores `gain` more, give or take."""
    rng = random.Random(0)
    made = []
    for index in range(prompts):
        base = {"clip": rng.random(), TRUTH: rng.random()}
        tuned = {
            "clip": base["clip"] + gain + rng.gauss(0, 0.01),
            TRUTH: base[TRUTH] + truth_gain + rng.gauss(0, 0.01),
        }
        made.append(
            Comparison(
                prompt=f"prompt {index}",
                seed=0,
                base=IMAGE,
                tuned=IMAGE,
                base_scores=base,
                tuned_scores=tuned,
            )
        )
    return made


def evaluation(found: list[Comparison]) -> Evaluation:
    return Evaluation(
        run="run-" + "0" * 16,
        prompts=len(found),
        images_per_prompt=1,
        seed=0,
        judgements=judge(found),
        comparisons=found,
    )


def test_a_clear_gain_has_an_interval_that_excludes_zero() -> None:
    judged = judge(comparisons(100, gain=0.05))["clip"]
    assert judged.difference.low > 0
    assert judged.difference.value == pytest.approx(0.05, abs=0.01)
    assert judged.win_rate.value > 0.95
    assert judged.tuned_mean - judged.base_mean == pytest.approx(judged.difference.value)


def test_no_gain_has_an_interval_around_zero_and_ties_are_half_a_win() -> None:
    same = [
        found.model_copy(update={"tuned_scores": found.base_scores}) for found in comparisons(20, gain=0.0)
    ]
    judged = judge(same)["clip"]
    assert (judged.difference.value, judged.win_rate.value) == (0.0, 0.5)


def test_images_of_one_prompt_count_as_one() -> None:
    """Ten times the images of the same prompts do not make the interval narrower."""
    few = comparisons(30, gain=0.01)
    one, ten = judge(few)["clip"].difference, judge(few * 10)["clip"].difference
    assert (one.low, one.high) == pytest.approx((ten.low, ten.high))


def test_a_reward_that_rises_without_the_truth_is_called_hacked() -> None:
    assert evaluation(comparisons(100, gain=0.05, truth_gain=-0.02)).hacked == ["clip"]
    assert evaluation(comparisons(100, gain=0.05, truth_gain=0.05)).hacked == []


def test_the_interval_of_a_mean_covers_it_about_as_often_as_it_says() -> None:
    rng = random.Random(1)
    covered = 0
    for trial in range(100):
        interval = bootstrap([rng.gauss(0.3, 1) for _ in range(40)], seed=trial)
        covered += interval.low <= 0.3 <= interval.high
    assert 85 <= covered <= 100


def unfinished(request: httpx2.Request) -> httpx2.Response:
    """A gateway that knows RUN, whose LoRA is not there yet."""
    if request.method == "GET":
        return httpx2.Response(200, content=RUN.model_dump_json())
    problem = Conflict(f"adapter: {RUN.id} has no LoRA; wait until it is finished").problem()
    return httpx2.Response(problem.status, content=problem.model_dump_json())


async def evaluated(*prompts: str, style: str | None = None) -> Evaluation:
    async with AsyncRetouche("http://test", transport=httpx2.MockTransport(unfinished)) as client:
        return await evaluate(client, RUN.id, prompts, style=style)


def test_what_a_service_refuses_is_raised_as_itself() -> None:
    with pytest.raises(Conflict, match="has no LoRA"):
        asyncio.run(evaluated("a red circle", "a blue square"))


def serving(request: httpx2.Request) -> httpx2.Response:
    """A gateway and services that draw one image whatever is asked, and score it."""
    model = {"id": "stub", "revision": "1"}
    answers = {
        f"/v1/runs/{RUN.id}": RUN.model_dump(mode="json"),
        "/v1/generate": {"image": IMAGE, "model": model},
        "/v1/reward": {"scores": [{"clip": {"raw": 0.5, "published": 0.5}}] * 2, "models": {"clip": model}},
    }
    if request.url.path in answers:
        return httpx2.Response(200, json=answers[request.url.path])
    return httpx2.Response(200, content=b"an image")


def test_a_prompt_that_the_truth_cannot_judge_is_named() -> None:
    def truth(_image: bytes, prompt: str) -> float:
        raise ValueError(f"no scene in {prompt}")

    async def judged() -> Evaluation:
        async with AsyncRetouche("http://test", transport=httpx2.MockTransport(serving)) as client:
            return await evaluate(client, RUN.id, ["a cat"], truth=truth)

    with pytest.raises(BadPrompts, match="--truth cannot judge 'a cat': no scene in a cat"):
        asyncio.run(judged())


def test_one_image_has_no_distance_and_that_is_said_before_it_is_drawn() -> None:
    with pytest.raises(BadRequest, match="1 images would be drawn of each model, and a distance takes 2"):
        asyncio.run(evaluated("a red circle", style="job-" + "0" * 16))
