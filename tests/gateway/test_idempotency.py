"""A submission sent again under its key gets the answer it got; the key stands for that submission alone."""

import httpx2
import pytest
from fastapi import FastAPI
from redis import Redis

from gateway.idempotency import KEPT_SECONDS
from retouche.store import ObjectStore
from tests.gateway.full_store import FullStore
from tests.gateway.shards import finish_shard
from tests.gateway.tenants import made

JOB = {"prompts": ["a red circle"]}


def submit(gateway: httpx2.Client, payload: object, key: str, path: str = "/v1/jobs") -> httpx2.Response:
    return gateway.post(path, json=payload, headers={"idempotency-key": key})


def test_the_same_key_and_body_get_the_same_answer(gateway: httpx2.Client, store: ObjectStore) -> None:
    first = submit(gateway, JOB, "one")
    finish_shard(store, first.json()["id"], 0, pairs=1)
    again = submit(gateway, JOB, "one")
    assert (again.status_code, again.json()) == (201, first.json())
    assert submit(gateway, JOB, "two").json()["state"] == "finished", "another key sees what is so now"


def test_a_run_too(gateway: httpx2.Client, store: ObjectStore) -> None:
    job = gateway.post("/v1/jobs", json=JOB).json()["id"]
    finish_shard(store, job, 0, pairs=1)
    run = {"data": {"job": job}}
    first = submit(gateway, run, "one", "/v1/runs")
    gateway.post(f"/v1/runs/{first.json()['id']}/cancel")
    again = submit(gateway, run, "one", "/v1/runs")
    assert (again.status_code, again.json()) == (201, first.json())
    assert submit(gateway, JOB, "one").status_code == 409, "a key is for one submission, wherever it goes"


def test_the_same_key_with_another_body_is_a_conflict(gateway: httpx2.Client) -> None:
    submit(gateway, JOB, "one")
    refused = submit(gateway, JOB | {"seed": 1}, "one")
    assert (refused.status_code, refused.json()["type"]) == (409, "urn:retouche:conflict")
    assert "'one' was used with another body" in refused.json()["detail"]
    assert len(gateway.get("/v1/jobs").json()["jobs"]) == 1


def test_a_key_is_a_tenants_own(guarded: httpx2.Client) -> None:
    once = {"idempotency-key": "one"}
    first = guarded.post("/v1/jobs", json=JOB, headers=made(guarded, "acme", "curate") | once)
    other = guarded.post("/v1/jobs", json=JOB | {"seed": 1}, headers=made(guarded, "other", "curate") | once)
    assert (first.status_code, other.status_code) == (201, 201)


def test_what_was_refused_may_be_tried_again(
    app: FastAPI, gateway: httpx2.Client, store: ObjectStore
) -> None:
    app.state.store = FullStore(store.url)
    assert submit(gateway, JOB, "one").status_code == 507
    app.state.store = store
    assert submit(gateway, JOB | {"seed": 1}, "one").status_code == 201


def test_a_key_expires(gateway: httpx2.Client, redis_url: str) -> None:
    submit(gateway, JOB, "one")
    with Redis.from_url(redis_url) as redis:
        (kept,) = redis.keys("retouche:once:local:*")
        assert 0 < redis.ttl(kept) <= KEPT_SECONDS


@pytest.mark.parametrize("key", ["", "x" * 256, "two words"])
def test_a_key_that_is_none_is_refused(gateway: httpx2.Client, key: str) -> None:
    answer = submit(gateway, JOB, key)
    assert (answer.status_code, answer.json()["fields"][0]["field"]) == (422, "idempotency-key")
    assert gateway.get("/v1/jobs").json()["jobs"] == []
