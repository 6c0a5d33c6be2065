"""Looking for pairs: by words, instruction, margin, disagreement and decision, in any order, by the page."""

import asyncio
from pathlib import Path
from typing import Any

import httpx2
import pytest
from fastapi import FastAPI

from gateway.pair_index import PairIndexes
from retouche.contract.jobs import JobReport, PreferencePair
from retouche.contract.stages import EditInstruction
from retouche.pairs import write_pairs
from retouche.store import ObjectStore, shard_path
from tests.gateway.shards import pair

# Scores of the chosen image under two reward models (the rejected one has 0), an action, a prompt.
WORLD: dict[str, tuple[float, float, Any, str]] = {
    "near": (0.1, 1.0, "recolor", "a red circle"),
    "clear": (0.4, 4.0, "recolor", "a Blue square"),
    "torn": (0.4, -1.0, "add", "two green squares"),
    "faint": (0.01, 0.1, "remove", "a red star"),
}


def made(identifier: str, index: int) -> PreferencePair:
    first, second, action, prompt = WORLD[identifier]
    changes = {
        "prompt": prompt,
        "chosen_scores": {"pick": first, "hps": second},
        "rejected_scores": {"pick": 0.0, "hps": 0.0},
        "instruction": EditInstruction(action=action, target="it", text=f"{action} it"),
    }
    return pair(identifier, index).model_copy(update=changes)


def commit(store: ObjectStore, job_id: str, shard: int, pairs: list[PreferencePair]) -> None:
    content = write_pairs(pairs, JobReport(pairs=len(pairs)))
    asyncio.run(store.create(shard_path(job_id, "shards", shard), content))


@pytest.fixture
def job_id(gateway: httpx2.Client, store: ObjectStore) -> str:
    job_id = str(gateway.post("/v1/jobs", json={"prompts": ["x"] * 128}).json()["id"])
    commit(store, job_id, 0, [made(name, index) for index, name in enumerate(WORLD)])
    return job_id


def found(gateway: httpx2.Client, job_id: str, **params: str | float | bool) -> list[str]:
    answer = gateway.get(f"/v1/jobs/{job_id}/pairs/search", params=params)
    assert answer.status_code == 200, answer.text
    assert answer.json()["total"] >= len(answer.json()["pairs"])
    return [one["pair"]["id"] for one in answer.json()["pairs"]]


def test_without_a_question_every_pair_in_the_order_of_prompts(gateway: httpx2.Client, job_id: str) -> None:
    assert found(gateway, job_id) == list(WORLD)
    assert found(gateway, job_id, descending=True) == list(WORLD)[::-1]


@pytest.mark.parametrize(
    ("question", "expected"),
    [
        ({"text": "SQUARE"}, ["clear", "torn"]),
        ({"text": "red star"}, ["faint"]),
        ({"text": "blue square recolor"}, ["clear"]),
        ({"text": ".*"}, []),
        ({"action": "add"}, ["torn"]),
        ({"reward": "pick", "min_margin": 0.2}, ["clear", "torn"]),
        ({"reward": "hps", "max_margin": 0.5}, ["torn", "faint"]),
        ({"min_disagreement": 1.5}, ["torn"]),
        ({"action": "recolor", "text": "red"}, ["near"]),
    ],
)
def test_what_is_asked_for_is_found(
    gateway: httpx2.Client, job_id: str, question: dict[str, str | float], expected: list[str]
) -> None:
    assert found(gateway, job_id, **question) == expected


def test_orders(gateway: httpx2.Client, job_id: str) -> None:
    by_margin = found(gateway, job_id, order="margin", reward="hps", descending=True)
    assert by_margin == ["clear", "near", "faint", "torn"]
    assert found(gateway, job_id, order="disagreement", descending=True)[0] == "torn"


def test_margins_over_all_reward_models_do_not_depend_on_their_scales(
    gateway: httpx2.Client, job_id: str
) -> None:
    """By hand: pick's root mean square is .2872, hps's 2.1219."""
    pairs = gateway.get(f"/v1/jobs/{job_id}/pairs/search").json()["pairs"]
    assert pairs[1]["margin"] == pytest.approx((0.4 / 0.2872 + 4 / 2.1219) / 2, rel=1e-3)
    assert pairs[2]["disagreement"] == pytest.approx(0.4 / 0.2872 + 1 / 2.1219, rel=1e-3)


def test_pages(gateway: httpx2.Client, job_id: str) -> None:
    assert found(gateway, job_id, limit=3) == ["near", "clear", "torn"]
    assert found(gateway, job_id, limit=3, offset=3) == ["faint"]
    assert found(gateway, job_id, offset=4) == []


def test_what_there_is_to_ask_for(gateway: httpx2.Client, job_id: str) -> None:
    answer = gateway.get(f"/v1/jobs/{job_id}/pairs/search").json()
    assert (answer["rewards"], answer["actions"]) == (["hps", "pick"], ["add", "recolor", "remove"])


def test_decisions_are_shown_counted_and_searched(gateway: httpx2.Client, job_id: str) -> None:
    for name, decision in (("torn", "flip"), ("faint", "reject"), ("near", "accept"), ("near", "withdraw")):
        wanted = {"decision": decision, "reviewer": "Ada"}
        gateway.post(f"/v1/jobs/{job_id}/pairs/{name}/reviews", json=wanted)
    assert found(gateway, job_id, decision="none") == ["near", "clear"]
    assert found(gateway, job_id, decision="flip") == ["torn"]
    answer = gateway.get(f"/v1/jobs/{job_id}/pairs/search").json()
    assert answer["decided"] == {"flip": 1, "reject": 1}
    assert answer["pairs"][2]["pair"]["review"]["decision"] == "flip"
    assert answer["pairs"][2]["pair"]["chosen"] == made("torn", 2).chosen  # as curated


def test_a_running_job_grows(gateway: httpx2.Client, store: ObjectStore, job_id: str) -> None:
    assert len(found(gateway, job_id)) == 4
    commit(store, job_id, 1, [made("near", 64)])
    assert found(gateway, job_id) == [*WORLD, "near"]


def test_a_gateway_that_starts_again_reads_one_file_instead_of_every_shard(
    gateway: httpx2.Client, app: FastAPI, store: ObjectStore, folder: Path, job_id: str
) -> None:
    commit(store, job_id, 1, [made("near", 64)])
    before = [found(gateway, job_id), found(gateway, job_id, text="red", order="margin")]
    for shard in folder.glob(f"jobs/{job_id}/shards/*"):
        shard.write_bytes(b"not read")
    app.state.indexes = PairIndexes(store)
    assert [found(gateway, job_id), found(gateway, job_id, text="red", order="margin")] == before


@pytest.mark.parametrize("left", [None, b"", b"PAR1"])
def test_that_file_is_made_anew_where_it_cannot_be_read(
    gateway: httpx2.Client, app: FastAPI, store: ObjectStore, folder: Path, job_id: str, left: bytes | None
) -> None:
    commit(store, job_id, 1, [made("near", 64)])
    before, kept = found(gateway, job_id), folder / "jobs" / job_id / "gathered.parquet"
    whole = kept.read_bytes()
    kept.unlink() if left is None else kept.write_bytes(left)
    app.state.indexes = PairIndexes(store)
    assert found(gateway, job_id) == before
    assert kept.read_bytes() == whole


def test_pairs_without_a_critique_are_found_too(
    gateway: httpx2.Client, store: ObjectStore, job_id: str
) -> None:
    commit(store, job_id, 1, [made("near", 64).model_copy(update={"critique": None, "id": "style"})])
    assert found(gateway, job_id, text="red circle recolor")[-1] == "style"
    assert "style" not in found(gateway, job_id, text="blue")


def test_a_job_without_pairs_has_nothing_to_find(gateway: httpx2.Client) -> None:
    job_id = gateway.post("/v1/jobs", json={"prompts": ["fresh"]}).json()["id"]
    assert found(gateway, job_id, order="margin", text="x") == []


def test_a_reward_model_that_scored_nothing_is_named(gateway: httpx2.Client, job_id: str) -> None:
    answer = gateway.get(f"/v1/jobs/{job_id}/pairs/search", params={"reward": "clip", "order": "margin"})
    assert answer.status_code == 400
    assert "its reward models are: hps, pick" in answer.json()["detail"]


@pytest.mark.parametrize(("name", "value"), [("limit", "101"), ("order", "best"), ("nonsense", "1")])
def test_a_bad_question_is_refused(gateway: httpx2.Client, job_id: str, name: str, value: str) -> None:
    answer = gateway.get(f"/v1/jobs/{job_id}/pairs/search", params={name: value})
    assert answer.status_code == 422
    assert answer.json()["fields"][0]["field"] == name
