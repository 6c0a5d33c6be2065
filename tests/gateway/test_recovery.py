"""What the gateway does again and again, for as long as it runs: it must cost little and never end."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import httpx2
import pytest
from fastapi import FastAPI
from redis import Redis
from rq.job import Job as RqJob

from gateway.app import create_app
from gateway.job_state import JobReader
from gateway.run_state import RunReader
from gateway.settings import Settings
from retouche.coordination import shard_task_id
from retouche.queue import curate_queue, train_queue
from retouche.store import ObjectStore, run, run_path
from tests.gateway.full_store import FullStore
from tests.gateway.server import serve
from tests.gateway.shards import finish_shard
from tests.until import until


class Watched(ObjectStore):
    """Notes what it is asked for."""

    def __init__(self, url: str) -> None:
        super().__init__(url)
        self.asked: list[str] = []

    async def exists(self, path: str) -> bool:
        self.asked.append(path)
        return await super().exists(path)

    def paths(self, prefix: str, after: str | None = None) -> AsyncIterator[str]:
        self.asked.append(prefix)
        return super().paths(prefix, after)


def submit(gateway: httpx2.Client, **spec: object) -> str:
    return str(gateway.post("/v1/jobs", json={"prompts": ["a red circle"]} | spec).json()["id"])


def submit_run(gateway: httpx2.Client, seed: int = 0) -> str:
    return str(gateway.post("/v1/runs", json={"data": {"pick_a_pic": "/data"}, "seed": seed}).json()["id"])


def test_a_finished_job_is_looked_at_once(app: FastAPI, gateway: httpx2.Client, store: ObjectStore) -> None:
    finish_shard(store, submit(gateway), 0, pairs=1)
    going_on = submit(gateway, seed=1)
    watched = Watched(store.url)
    app.state.reader = JobReader(watched, app.state.redis)
    rounds = []
    for _ in range(3):
        watched.asked.clear()
        assert [job["id"] for job in gateway.post("/v1/recover").json()["jobs"]] == [going_on]
        rounds.append({path.split("/")[1] for path in watched.asked})
    assert len(rounds[0]) == 2
    assert rounds[1:] == [{going_on}, {going_on}]


def test_a_finished_run_is_looked_at_once(gateway: httpx2.Client, store: ObjectStore) -> None:
    run_id = submit_run(gateway)
    watched = Watched(store.url)
    reader = RunReader(watched)
    assert not run(reader.ended(run_id))
    run(store.put(run_path(run_id, "finished.json"), b"{}"))
    assert run(reader.ended(run_id))
    watched.asked.clear()
    assert run(reader.ended(run_id))
    assert watched.asked == []


def test_a_run_that_redis_has_lost_is_enqueued_again(gateway: httpx2.Client, redis_url: str) -> None:
    run_id = submit_run(gateway)
    assert gateway.post("/v1/recover").json() == {"jobs": [], "runs": []}
    redis = Redis.from_url(redis_url)
    redis.flushall()
    recovered = gateway.post("/v1/recover").json()
    assert [(found["id"], found["state"]) for found in recovered["runs"]] == [(run_id, "queued")]
    assert train_queue(redis).job_ids == [run_id]


def test_what_another_version_has_written_is_told_and_holds_nothing_up(
    gateway: httpx2.Client, settings: Settings, store: ObjectStore, redis_url: str
) -> None:
    job_id, unreadable = submit(gateway), "job-" + "0" * 16
    run(store.put(f"jobs/{unreadable}/spec.json", b'{"id": 7}'))
    run(store.put(f"tenants/local/jobs/{unreadable}", b""))
    assert [job["id"] for job in gateway.get("/v1/jobs").json()["jobs"]] == [job_id]
    told = gateway.get(f"/v1/jobs/{unreadable}")
    assert (told.status_code, told.json()["type"]) == (500, "urn:retouche:internal")
    assert f"jobs/{unreadable}/spec.json cannot be read, id: " in told.json()["detail"]
    redis = Redis.from_url(redis_url)
    redis.flushall()
    with serve(create_app(settings)):
        until(lambda: curate_queue(redis).job_ids)


def test_a_round_that_fails_is_not_the_last(
    gateway: httpx2.Client, settings: Settings, redis_url: str
) -> None:
    """Redis refuses every write for a while, as when its disk is full."""
    submit(gateway)
    redis = Redis.from_url(redis_url)
    redis.flushall()
    redis.config_set("min-replicas-to-write", 1)
    try:
        with serve(create_app(settings.model_copy(update={"upkeep_seconds": 0.05}))):
            asyncio.run(asyncio.sleep(0.3))
            assert curate_queue(redis).job_ids == []
            redis.config_set("min-replicas-to-write", 0)
            until(lambda: curate_queue(redis).job_ids)
    finally:
        redis.config_set("min-replicas-to-write", 0)


@pytest.mark.parametrize("name", ["notes.txt", ".DS_Store", ".nfs0000000000a1b2c3", "000000.parquet.part"])
def test_a_foreign_file_is_nobodys_shard(
    gateway: httpx2.Client, folder: Path, redis_url: str, name: str
) -> None:
    older, newer = submit(gateway), submit(gateway, seed=1)
    for kind in ("shards", "failed"):
        foreign = folder / "jobs" / newer / kind / name
        foreign.parent.mkdir()
        foreign.touch()
    redis = Redis.from_url(redis_url)
    redis.flushall()
    assert [job["id"] for job in gateway.post("/v1/recover").json()["jobs"]] == [newer, older]
    assert curate_queue(redis).job_ids == [shard_task_id(newer, 0), shard_task_id(older, 0)]
    assert gateway.get(f"/v1/jobs/{newer}").json()["state"] == "queued"


def test_what_cannot_be_written_of_one_holds_up_no_other(
    app: FastAPI, gateway: httpx2.Client, store: ObjectStore, redis_url: str
) -> None:
    """Of a job and a run that RQ has given up, which the full store cannot be told; older ones are lost."""
    jobs = [submit(gateway, seed=seed) for seed in range(2)]
    runs = [submit_run(gateway, seed) for seed in range(2)]
    redis = Redis.from_url(redis_url)
    redis.delete(curate_queue(redis).key, train_queue(redis).key)
    for lost, given_up in [[shard_task_id(job_id, 0) for job_id in jobs], runs]:
        redis.delete(RqJob.key_for(lost))
        redis.hset(RqJob.key_for(given_up), "status", "failed")
    app.state.store = FullStore(store.url)
    recovered = gateway.post("/v1/recover").json()
    assert [job["id"] for job in recovered["jobs"]] == jobs[:1]
    assert [run["id"] for run in recovered["runs"]] == runs[:1]
    app.state.store = store
    gateway.post("/v1/recover")
    assert gateway.get(f"/v1/jobs/{jobs[1]}").json()["state"] == "failed", "once there is space"
    assert gateway.get(f"/v1/runs/{runs[1]}").json()["state"] == "failed"
