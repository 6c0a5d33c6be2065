"""What came out: pairs and traces of the finished shards, in their order, in three formats."""

import io
import json

import httpx2
import pyarrow.parquet as pq
import pytest

from gateway.pairs import MOST_SHARDS_READ
from retouche.contract.jobs import PreferencePair
from retouche.store import ObjectStore
from tests.gateway.shards import finish_shard, pair


@pytest.fixture
def job_id(gateway: httpx2.Client, store: ObjectStore) -> str:
    """A job of four shards: the first, empty; the third, running; the others, finished."""
    job_id = str(gateway.post("/v1/jobs", json={"prompts": ["x"] * 256}).json()["id"])
    for shard, pairs in ((3, 2), (0, 0), (1, 5)):
        finish_shard(store, job_id, shard, pairs)
    return job_id


IN_ORDER = ["1-0", "1-1", "1-2", "1-3", "1-4", "3-0", "3-1"]


@pytest.mark.parametrize("limit", [1, 2, 5, 7, 1000])
def test_pages_give_every_pair_once_in_order(gateway: httpx2.Client, job_id: str, limit: int) -> None:
    seen, params = [], {"limit": str(limit)}
    while True:
        page = gateway.get(f"/v1/jobs/{job_id}/pairs", params=params).json()
        assert len(page["pairs"]) <= limit
        seen += [found["id"] for found in page["pairs"]]
        if page["next_cursor"] is None:
            break
        params["cursor"] = page["next_cursor"]
    assert seen == IN_ORDER


def test_a_page_looks_at_so_many_shards_and_says_where_the_next_one_begins(
    gateway: httpx2.Client, store: ObjectStore
) -> None:
    job_id = gateway.post("/v1/jobs", json={"prompts": ["x"] * 64 * (MOST_SHARDS_READ + 1)}).json()["id"]
    for shard in range(MOST_SHARDS_READ + 1):
        finish_shard(store, job_id, shard, pairs=1 if shard == MOST_SHARDS_READ else 0)
    first = gateway.get(f"/v1/jobs/{job_id}/pairs").json()
    assert first == {"pairs": [], "next_cursor": f"{MOST_SHARDS_READ}:0"}
    second = gateway.get(f"/v1/jobs/{job_id}/pairs", params={"cursor": first["next_cursor"]}).json()
    assert ([found["id"] for found in second["pairs"]], second["next_cursor"]) == (
        [f"{MOST_SHARDS_READ}-0"],
        None,
    )


def test_ndjson_is_a_pair_a_line(gateway: httpx2.Client, job_id: str) -> None:
    answer = gateway.get(f"/v1/jobs/{job_id}/pairs", params={"format": "ndjson"})
    assert answer.headers["content-type"] == "application/x-ndjson"
    found = [PreferencePair.model_validate_json(line) for line in answer.text.splitlines()]
    assert [one.id for one in found] == IN_ORDER
    assert found[0] == pair("1-0", 64)


def test_parquet_is_one_file(gateway: httpx2.Client, job_id: str) -> None:
    answer = gateway.get(f"/v1/jobs/{job_id}/pairs", params={"format": "parquet"})
    assert f"{job_id}-pairs.parquet" in answer.headers["content-disposition"]
    table = pq.read_table(io.BytesIO(answer.content))
    assert table.column("id").to_pylist() == IN_ORDER
    assert table.column("instruction").to_pylist()[0]["text"] == "make the circle red"


def test_traces_tell_what_was_lost(gateway: httpx2.Client, job_id: str) -> None:
    page = gateway.get(f"/v1/jobs/{job_id}/traces").json()
    assert [trace["prompt_index"] for trace in page["traces"]] == [0, 64, 192]
    assert {trace["dropped"] for trace in page["traces"]} == {"generation_failed"}
    lines = gateway.get(f"/v1/jobs/{job_id}/traces", params={"format": "ndjson"}).text.splitlines()
    assert [json.loads(line) for line in lines] == page["traces"]


@pytest.mark.parametrize("format", ["json", "ndjson", "parquet"])
def test_a_job_without_a_finished_shard_has_no_pairs_yet(gateway: httpx2.Client, format: str) -> None:
    job_id = gateway.post("/v1/jobs", json={"prompts": ["fresh"]}).json()["id"]
    answer = gateway.get(f"/v1/jobs/{job_id}/pairs", params={"format": format})
    assert answer.status_code == 200
    if format == "json":
        assert answer.json() == {"pairs": [], "next_cursor": None}
    if format == "parquet":
        assert pq.read_table(io.BytesIO(answer.content)).num_rows == 0


@pytest.mark.parametrize(
    ("name", "value"), [("cursor", "x"), ("cursor", "1" * 5000 + ":0"), ("limit", "0"), ("format", "xml")]
)
def test_a_bad_query_is_refused_with_its_name(
    gateway: httpx2.Client, job_id: str, name: str, value: str
) -> None:
    answer = gateway.get(f"/v1/jobs/{job_id}/pairs", params={name: value})
    assert answer.status_code == 422
    assert answer.json()["fields"][0]["field"] == name
