"""The chaos schedule and its account. `make chaos` itself is run by `make check`."""

import asyncio

import pytest

from bench.chaos.account import Account, account
from bench.chaos.schedule import KINDS, schedule
from bench.chaos.work import Work, job_spec
from retouche.contract.jobs import DropReason, EditTrace, ImageTrace, JobReport, PreferencePair
from retouche.contract.stages import EditInstruction
from retouche.pairs import write_pairs, write_traces
from retouche.store import ObjectStore, shard_path
from tests.gateway.shards import pair

ITEMS = len(job_spec(0).prompts or ())


def test_every_kind_comes_once_in_each_round() -> None:
    planned = list(schedule(seed=3, faults=2 * len(KINDS), kinds=KINDS, workers=2))
    first, second = planned[: len(KINDS)], planned[len(KINDS) :]
    assert sorted(fault.kind for fault in first) == sorted(fault.kind for fault in second) == sorted(KINDS)
    assert planned == list(schedule(seed=3, faults=2 * len(KINDS), kinds=KINDS, workers=2))


def accounted(store: ObjectStore, pairs: list[PreferencePair], traces: list[ImageTrace]) -> Account:
    """The account of one job with one shard."""
    work = Work("http://127.0.0.1:1")
    work.jobs.append(job_spec(0))
    work.job_ids[job_spec(0)] = "job-1"

    async def written() -> Account:
        await store.put(shard_path("job-1", "shards", 0), write_pairs(pairs, JobReport()))
        await store.put(shard_path("job-1", "traces", 0), write_traces(traces))
        return await account(store, work)

    return asyncio.run(written())


def trace(prompt_index: int, dropped: DropReason | None) -> ImageTrace:
    error = "it died" if dropped == "critique_failed" else None
    return ImageTrace(
        prompt="a circle", prompt_index=prompt_index, image_index=0, seed=0, dropped=dropped, error=error
    )


def test_every_item_is_in_one_place(store: ObjectStore) -> None:
    traces = [trace(place, "no_findings") for place in range(2, ITEMS)]
    traces += [trace(0, None), trace(1, "critique_failed")]
    found = accounted(store, [pair("one", prompt_index=0)], traces)
    assert (found.paired, found.filtered, found.dead_lettered) == (1, ITEMS - 2, 1)
    assert (found.lost, found.duplicated) == (0, 0)
    assert found.causes == {"it died": 1}


@pytest.mark.parametrize(("extra", "lost", "duplicated"), [(0, 1, 0), (1, 0, 0), (2, 0, 1)])
def test_what_is_missing_or_there_twice_is_seen(
    store: ObjectStore, extra: int, lost: int, duplicated: int
) -> None:
    traces = [trace(place, "no_findings") for place in range(1, ITEMS)]
    found = accounted(store, [], traces + [trace(0, "no_findings")] * extra)
    assert (found.lost, found.duplicated) == (lost, duplicated)


def test_a_pair_that_is_in_no_shard_is_lost(store: ObjectStore) -> None:
    redden = EditInstruction(action="recolor", target="the circle", text="make the circle red")
    edit = EditTrace(instruction=redden, seed=0, outcome="pair")
    chosen = trace(0, None).model_copy(update={"edits": [edit]})
    found = accounted(store, [], [chosen, *(trace(place, "no_findings") for place in range(1, ITEMS))])
    assert (found.lost, found.filtered) == (1, ITEMS - 1)


def test_an_item_that_was_given_up_in_place_of_filtered_out_is_not_the_same(store: ObjectStore) -> None:
    filtered, given_up = (
        accounted(store, [], [trace(0, reason), *(trace(place, "no_findings") for place in range(1, ITEMS))])
        for reason in ("no_findings", "critique_failed")
    )
    assert filtered.digest == given_up.digest
    assert filtered.made_the_same_as(filtered)
    assert not given_up.made_the_same_as(filtered)


def test_other_pairs_are_another_digest(store: ObjectStore) -> None:
    one, other = (accounted(store, [pair(name, prompt_index=0)], []).digest for name in ("one", "other"))
    assert one != other
