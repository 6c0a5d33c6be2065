"""People decide about pairs: every decision is kept, the newest counts, exports honour it."""

import asyncio
import io

import httpx2
import pyarrow.parquet as pq
import pytest
from fastapi import FastAPI

from gateway.decisions import DecisionReader
from gateway.pair_index import PairIndexes
from retouche.contract.jobs import PreferencePair
from retouche.contract.runs import RunSpec
from retouche.reviews import record_review
from retouche.store import ObjectStore, run
from tests.gateway.shards import EDIT, ORIGINAL, finish_shard
from trainer.sources.dataset import finished_pairs


@pytest.fixture
def job_id(gateway: httpx2.Client, store: ObjectStore) -> str:
    """A finished job of three pairs: 0-0, 0-1 and 0-2."""
    job_id = str(gateway.post("/v1/jobs", json={"prompts": ["x"] * 3}).json()["id"])
    finish_shard(store, job_id, 0, 3)
    return job_id


def decide(gateway: httpx2.Client, job_id: str, pair: str, decision: str) -> httpx2.Response:
    wanted = {"decision": decision, "reviewer": "Ada"}
    return gateway.post(f"/v1/jobs/{job_id}/pairs/{pair}/reviews", json=wanted)


def exported(gateway: httpx2.Client, job_id: str, reviewed: str) -> list[PreferencePair]:
    params = {"format": "ndjson", "reviewed": reviewed}
    lines = gateway.get(f"/v1/jobs/{job_id}/pairs", params=params).text.splitlines()
    return [PreferencePair.model_validate_json(line) for line in lines]


def test_a_decision_is_kept_with_who_and_when(gateway: httpx2.Client, job_id: str) -> None:
    answer = decide(gateway, job_id, "0-1", "accept")
    assert answer.status_code == 201
    assert answer.json().items() >= {"pair": "0-1", "decision": "accept", "reviewer": "Ada"}.items()
    assert gateway.get(f"/v1/jobs/{job_id}/reviews").json() == [answer.json()]


def test_undoing_is_a_newer_decision_and_nothing_is_lost(gateway: httpx2.Client, job_id: str) -> None:
    for decision in ("reject", "withdraw", "flip"):
        decide(gateway, job_id, "0-0", decision)
    decide(gateway, job_id, "0-2", "accept")
    found = gateway.get(f"/v1/jobs/{job_id}/reviews", params={"pair": "0-0"}).json()
    assert [review["decision"] for review in found] == ["reject", "withdraw", "flip"]


def test_exports_honour_what_was_decided(gateway: httpx2.Client, job_id: str) -> None:
    decide(gateway, job_id, "0-0", "reject")
    decide(gateway, job_id, "0-1", "accept")
    assert [pair.id for pair in exported(gateway, job_id, "all")] == ["0-0", "0-1", "0-2"]
    assert [pair.id for pair in exported(gateway, job_id, "not_rejected")] == ["0-1", "0-2"]
    assert [pair.id for pair in exported(gateway, job_id, "only")] == ["0-1"]
    decide(gateway, job_id, "0-0", "withdraw")
    assert [pair.id for pair in exported(gateway, job_id, "not_rejected")] == ["0-0", "0-1", "0-2"]


def test_a_flip_swaps_the_images_and_says_so(gateway: httpx2.Client, job_id: str) -> None:
    decide(gateway, job_id, "0-2", "flip")
    as_curated = exported(gateway, job_id, "all")[2]
    assert (as_curated.chosen, as_curated.review) == (EDIT, None)
    (pair,) = exported(gateway, job_id, "only")
    assert (pair.chosen, pair.rejected, pair.chosen_is_edit) == (ORIGINAL, EDIT, False)
    assert (pair.chosen_scores, pair.rejected_scores) == ({"clip": 0.125}, {"clip": 0.25})
    assert pair.review is not None
    assert (pair.review.decision, pair.review.reviewer) == ("flip", "Ada")


def test_parquet_has_the_decision_as_a_column(gateway: httpx2.Client, job_id: str) -> None:
    decide(gateway, job_id, "0-0", "reject")
    decide(gateway, job_id, "0-2", "flip")
    params = {"format": "parquet", "reviewed": "not_rejected"}
    answer = gateway.get(f"/v1/jobs/{job_id}/pairs", params=params)
    table = pq.read_table(io.BytesIO(answer.content))
    assert table.column("chosen").to_pylist() == [EDIT, ORIGINAL]
    assert [row and row["decision"] for row in table.column("review").to_pylist()] == [None, "flip"]


def test_pages_skip_what_is_left_out(gateway: httpx2.Client, job_id: str) -> None:
    decide(gateway, job_id, "0-1", "reject")
    params = {"limit": "1", "reviewed": "not_rejected"}
    first = gateway.get(f"/v1/jobs/{job_id}/pairs", params=params).json()
    second = gateway.get(f"/v1/jobs/{job_id}/pairs", params={**params, "cursor": first["next_cursor"]}).json()
    assert [page["pairs"][0]["id"] for page in (first, second)] == ["0-0", "0-2"]


def test_the_pair_must_be_there(gateway: httpx2.Client, job_id: str) -> None:
    answer = decide(gateway, job_id, "0-7", "accept")
    assert answer.status_code == 404
    assert "has no pair 0-7" in answer.json()["detail"]
    assert gateway.get(f"/v1/jobs/{job_id}/reviews").json() == []


class SlowStore(ObjectStore):
    """Takes as long over a shard as makes an index that is not made again for seconds."""

    async def get(self, path: str) -> bytes:
        if "/shards/" in path:
            await asyncio.sleep(0.6)
        return await super().get(path)


def test_a_pair_that_was_just_listed_can_be_decided_about(
    gateway: httpx2.Client, app: FastAPI, store: ObjectStore
) -> None:
    app.state.indexes = PairIndexes(SlowStore(store.url))
    job_id = gateway.post("/v1/jobs", json={"prompts": ["x"] * 192}).json()["id"]
    finish_shard(store, job_id, 0, 1)
    assert decide(gateway, job_id, "0-0", "accept").status_code == 201
    finish_shard(store, job_id, 1, 1)
    searched = gateway.get(f"/v1/jobs/{job_id}/pairs/search").json()
    assert searched["total"] == 1, "a search shows what was indexed last"
    listed = gateway.get(f"/v1/jobs/{job_id}/pairs").json()["pairs"]
    assert [pair["id"] for pair in listed] == ["0-0", "1-0"]
    assert decide(gateway, job_id, "1-0", "accept").status_code == 201
    assert decide(gateway, job_id, "2-0", "accept").status_code == 404


@pytest.mark.parametrize(
    ("wanted", "field"),
    [
        ({"decision": "like", "reviewer": "Ada"}, "decision"),
        ({"decision": "accept", "reviewer": " "}, "reviewer"),
        ({"decision": "accept"}, "reviewer"),
    ],
)
def test_a_decision_that_is_none_is_refused(
    gateway: httpx2.Client, job_id: str, wanted: dict[str, str], field: str
) -> None:
    answer = gateway.post(f"/v1/jobs/{job_id}/pairs/0-0/reviews", json=wanted)
    assert answer.status_code == 422
    assert answer.json()["fields"][0]["field"] == field


def test_another_gateways_decisions_are_seen(gateway: httpx2.Client, store: ObjectStore, job_id: str) -> None:
    decide(gateway, job_id, "0-0", "accept")
    assert gateway.get(f"/v1/jobs/{job_id}/reviews").json()
    run(record_review(store, job_id, "0-1", "reject", "Grace"))
    here = gateway.get(f"/v1/jobs/{job_id}/reviews").json()
    elsewhere = run(DecisionReader(store).log(job_id))
    assert (
        [found["reviewer"] for found in here] == [found.reviewer for found in elsewhere] == ["Ada", "Grace"]
    )


def test_a_run_keeps_to_the_decisions_known_when_it_was_submitted(
    gateway: httpx2.Client, job_id: str
) -> None:
    spec = {"data": {"job": job_id, "reviewed": "only"}}
    accepted = decide(gateway, job_id, "0-0", "accept").json()
    first = gateway.post("/v1/runs", json=spec).json()
    assert first["spec"]["data"]["reviewed_until"] == accepted["at"]
    assert gateway.post("/v1/runs", json=spec).json()["id"] == first["id"]
    decide(gateway, job_id, "0-1", "accept")
    assert gateway.post("/v1/runs", json=spec).json()["id"] != first["id"]


def test_a_run_that_nobody_had_reviewed_for_knows_no_later_decisions(
    gateway: httpx2.Client, store: ObjectStore, job_id: str
) -> None:
    spec = {"data": {"job": job_id, "reviewed": "not_rejected"}}
    submitted = RunSpec.model_validate(gateway.post("/v1/runs", json=spec).json()["spec"])
    assert gateway.post("/v1/runs", json=spec).status_code == 200, "it is the same run"
    decide(gateway, job_id, "0-0", "reject")
    until = submitted.data.reviewed_until
    trained_on = run(finished_pairs(store, job_id, submitted.data.reviewed, until))
    assert [pair.id for pair in trained_on] == ["0-0", "0-1", "0-2"]


def test_a_time_without_its_zone_is_refused(gateway: httpx2.Client, job_id: str) -> None:
    data = {"job": job_id, "reviewed": "only", "reviewed_until": "2026-11-22T10:00:00"}
    answer = gateway.post("/v1/runs", json={"data": data})
    assert answer.status_code == 422
    assert "data.reviewed_until: Input should have timezone info" in answer.json()["detail"]


@pytest.mark.parametrize("data", [{"job": "job-0123456789abcdef", "follow": True}, {"pick_a_pic": "x"}])
def test_only_a_finished_job_has_decisions(gateway: httpx2.Client, data: dict[str, object]) -> None:
    answer = gateway.post("/v1/runs", json={"data": data | {"reviewed": "only"}})
    assert answer.status_code == 422
    assert "`reviewed` needs a finished `job`" in answer.json()["detail"]
