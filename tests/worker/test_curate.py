"""The pipeline against stub services: what becomes of each image and edit, and what is counted."""

import asyncio
from collections.abc import Sequence
from typing import get_args

import httpx2
import pytest
from PIL import Image

from bench.stub_services import MODELS, Stage, create_app
from retouche.client.stages import StageClient
from retouche.contract.jobs import (
    CurationSpec,
    DropReason,
    ImageTrace,
    JobReport,
    PreferencePair,
    RewardRule,
    StartingImage,
)
from retouche.contract.payload import ModelIdentity
from retouche.contract.stages import STAGES
from retouche.errors import BadRequest, Conflict
from retouche.images import encode
from retouche.pairs import read_pairs, write_pairs
from retouche.store import ObjectStore
from tests.live import live
from worker.curate import ShardPrompts, curate
from worker.limits import Limit, ServiceAway
from worker.prepare import prepare

Curated = tuple[list[PreferencePair], list[ImageTrace], JobReport]


def curated(
    url: str,
    prompts: Sequence[str],
    *,
    images: Sequence[StartingImage] = (),
    patience_seconds: float = 10.0,
    **parameters: object,
) -> Curated:
    """Curate one shard of `prompts` with the services at `url`."""
    spec = CurationSpec.model_validate({"prompts": tuple(prompts), **parameters})

    async def run() -> Curated:
        limits = {stage: Limit(stage, 32, patience_seconds) for stage in STAGES}
        async with StageClient(url, timeout_seconds=10) as client:
            curation = await prepare(spec, client, limits)
            pairs, traces = await curate(curation, ShardPrompts(prompts, 0, [0] * len(prompts), images))
            return pairs, traces, curation.report

    return asyncio.run(run())


def test_a_pair_carries_everything_that_led_to_it(services: str, store: ObjectStore) -> None:
    (pair,), (trace,), report = curated(services, ["a square"], instructions_per_image=2)
    assert pair.chosen_is_edit
    assert (pair.rejected, pair.prompt, pair.generation_seed) == (trace.image, "a square", trace.seed)
    assert pair.instruction.text == "make it redder by 2", "the clearer of the two edits"
    assert pair.chosen_scores["redness"] > pair.rejected_scores["redness"]
    assert pair.findings[0].problem == "is not red enough"
    assert pair.models.editing == MODELS["editing"]
    assert set(pair.models.rewards) == {"redness", "contrary"}
    assert asyncio.run(store.get_image(pair.chosen)) != asyncio.run(store.get_image(pair.rejected))
    assert [edit.outcome for edit in trace.edits] == ["not_best", "pair"]
    assert (report.prompts, report.images, report.images_with_findings, report.edits) == (1, 1, 1, 2)
    assert (report.pairs, report.dropped) == (1, {"not_best": 1})


def test_an_instruction_that_is_repeated_is_carried_out_once(services: str) -> None:
    pairs, (trace,), report = curated(
        services, ["a repeated square"], instructions_per_image=3, pairs_per_image=3
    )
    assert [instruction.target for instruction in trace.instructions] == ["the square, 0"]
    assert (len(pairs), report.pairs, report.stages["editing"].done, report.dropped) == (1, 1, 1, {})


def test_existing_images_are_started_from_in_place_of_generated_ones(
    services: str, store: ObjectStore
) -> None:
    image = asyncio.run(store.put_image(encode(Image.new("RGB", (16, 16), (100, 0, 0)))))
    there = StartingImage(prompt="a square", origin="a.parquet row 1", image=image)
    broken = StartingImage(prompt="a circle", origin="a.parquet row 2", problem="is cut off")
    (pair,), (trace, lost), report = curated(
        services,
        ["a square", "a circle"],
        images=[there, broken],
        instructions_per_image=1,
        images_per_prompt=4,
    )
    assert (pair.rejected, pair.origin, pair.generation_seed) == (image, "a.parquet row 1", None)
    assert (pair.models.generation, pair.models.editing) == (None, MODELS["editing"])
    assert (trace.image, trace.origin) == (image, "a.parquet row 1")
    assert (lost.dropped, lost.error) == ("unreadable_image", "a.parquet row 2: is cut off")
    assert (report.images, report.dropped) == (1, {"unreadable_image": 1})
    assert "generation" not in report.stages


def test_an_edit_that_made_it_worse_makes_the_original_the_chosen_one(services: str) -> None:
    (pair,), (trace,), _ = curated(services, ["edit_worse"], instructions_per_image=1)
    assert not pair.chosen_is_edit
    assert pair.chosen == trace.image


@pytest.mark.parametrize("reason", sorted({*get_args(DropReason)} - {"unreadable_image"}))
def test_each_reason_to_drop_is_counted_and_the_rest_goes_on(services: str, reason: DropReason) -> None:
    instructions = 2 if reason == "not_best" else 1
    pairs, traces, report = curated(
        services, ["good", f"bad: {reason}"], instructions_per_image=instructions, relabel=False
    )
    good, bad = traces
    assert pairs[0].prompt == "good"
    assert (bad.dropped or bad.edits[0].outcome) == reason
    assert report.dropped[reason] == (2 if reason == "not_best" else 1)
    if reason.endswith("_failed"):
        assert "as told" in (bad.error or bad.edits[0].error or "")
        assert sum(stage.failed for stage in report.stages.values()) == 1
    assert good.dropped is None


def test_pairs_and_traces_come_in_the_order_of_prompts_and_images(services: str) -> None:
    pairs, traces, report = curated(
        services, ["first", "second"], images_per_prompt=3, instructions_per_image=1
    )
    places = [(prompt, image) for prompt in (0, 1) for image in (0, 1, 2)]
    assert [(pair.prompt_index, pair.image_index) for pair in pairs] == places
    assert [(trace.prompt_index, trace.image_index) for trace in traces] == places
    assert len({trace.seed for trace in traces}) == report.images == 6


def test_a_style_is_asked_of_every_image_and_its_edits_are_the_chosen_ones(services: str) -> None:
    pairs, traces, report = curated(services, ["a square", "edit_worse"], style="make it redder by 3")
    assert [pair.chosen_is_edit for pair in pairs] == [True, True], "whatever the reward models say"
    assert [pair.instruction.text for pair in pairs] == ["make it redder by 3"] * 2
    assert pairs[1].chosen_scores["redness"] < pairs[1].rejected_scores["redness"]
    assert {(pair.critique, pair.models.critique, pair.models.instruction) for pair in pairs} == {(None,) * 3}
    assert report.stages.keys() == {"generation", "editing", "reward"}
    assert all(trace.critique is None for trace in traces)
    assert read_pairs(write_pairs(pairs, report)) == pairs


def test_edits_of_one_instruction_differ_by_their_seed(services: str) -> None:
    _, (trace,), report = curated(
        services, ["a square"], instructions_per_image=2, edits_per_instruction=3, pairs_per_image=6
    )
    assert len({edit.image for edit in trace.edits}) == report.edits == report.pairs == 6


def test_a_second_run_is_answered_from_the_memo(services: str) -> None:
    first, _, report = curated(services, ["a", "b", "c"])
    made = httpx2.get(f"{services}/metrics").text
    again, _, second = curated(services, ["a", "b", "c"])
    assert [pair.id for pair in again] == [pair.id for pair in first]
    assert all(stage.remembered == 0 for stage in report.stages.values())
    assert all(stage.remembered == stage.done > 0 for stage in second.stages.values())
    assert 'retouche_memo_answers_total{outcome="miss"} 21.0' in made


def test_only_the_reward_models_that_are_named_vote(services: str) -> None:
    rules = (RewardRule(name="redness", margin=0.001),)
    (pair,), _, _ = curated(services, ["disagreement"], rewards=rules)
    assert set(pair.chosen_scores) == set(pair.models.rewards) == {"redness"}


def test_a_reward_model_that_is_not_there_is_named(services: str) -> None:
    with pytest.raises(BadRequest, match="beauty"):
        curated(services, ["a square"], rewards=(RewardRule(name="beauty"),))


def test_a_reward_service_without_a_model_is_a_bad_request(store: ObjectStore) -> None:
    with live(create_app(store, margins={})) as url, pytest.raises(BadRequest, match="nothing can vote"):
        curated(url, ["a square"])


DEPLOYED = {**{stage: MODELS[stage] for stage in STAGES[:4]}, "rewards": {"redness": MODELS["redness"]}}
OTHER = ModelIdentity(id="stub-editing", revision="2")


def test_a_job_for_the_models_that_are_deployed(services: str) -> None:
    pairs, _, _ = curated(services, ["a square"], models=DEPLOYED)
    assert len(pairs) == 1


@pytest.mark.parametrize(
    ("wanted", "says"),
    [
        ({"editing": OTHER}, "for editing stub-editing@2, and stub-editing@1 is deployed"),
        ({"rewards": {"redness": OTHER}}, "for reward redness stub-editing@2, and stub-redness@1"),
        ({"rewards": {"beauty": OTHER}}, "for reward beauty stub-editing@2, and none is deployed"),
    ],
)
def test_a_job_for_other_models_is_given_up(services: str, wanted: dict[str, object], says: str) -> None:
    with pytest.raises(Conflict, match=says):
        curated(services, ["a square"], models=DEPLOYED | wanted)


@pytest.mark.parametrize("replaced", [*STAGES[:4], "redness"])
def test_a_job_whose_models_are_replaced_on_the_way_is_given_up(store: ObjectStore, replaced: str) -> None:
    """/readyz named the right one at the start. No image is dropped for it, no pair bears a wrong name."""
    app = create_app(store)
    app.state.stub.models[replaced] = ModelIdentity(id=f"stub-{replaced}", revision="2")
    says = f"{replaced} stub-{replaced}@1, and stub-{replaced}@2 is deployed"
    with live(app) as url, pytest.raises(Conflict, match=says):
        curated(url, ["a square", "a circle"], models=DEPLOYED)


def test_a_job_for_the_models_that_are_deployed_may_put_adapters_on(store: ObjectStore) -> None:
    run = "run-0123456789abcdef"
    app = create_app(store)
    for stage in ("generation", "editing"):
        app.state.stub.models[stage] = ModelIdentity(id=f"stub-{stage}+{run}", revision="1")
    with live(app) as url:
        (pair,), _, _ = curated(
            url, ["a square"], models=DEPLOYED, generation={"adapter": run}, editing={"adapter": run}
        )
    assert pair.models.generation == app.state.stub.models["generation"]


def test_a_pair_names_the_models_that_answered(store: ObjectStore) -> None:
    """A job that names none takes whichever are deployed, and those may be replaced while it runs."""
    app = create_app(store)
    app.state.stub.models |= {"editing": OTHER, "redness": OTHER}
    with live(app) as url:
        (pair,), _, _ = curated(url, ["a square"])
    assert (pair.models.editing, pair.models.critique) == (OTHER, MODELS["critique"])
    assert pair.models.rewards == {"redness": OTHER, "contrary": MODELS["contrary"]}


def test_a_service_that_refuses_gets_everything_in_the_end(store: ObjectStore) -> None:
    narrow = {"editing": Stage(0.005, 2, 0)}
    with live(create_app(store, narrow)) as url:
        pairs, _, report = curated(url, [str(index) for index in range(16)])
    assert (len(pairs), report.stages["editing"].failed) == (16, 0)


def test_a_service_that_is_away_fails_the_shard(unused_url: str) -> None:
    with pytest.raises(ServiceAway, match="reward"):
        curated(unused_url, ["a square"], patience_seconds=0.1)
