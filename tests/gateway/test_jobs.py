"""A job's life at the gateway: submitted, cancelled, run again, found again. No worker runs here."""

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, cast

import httpx2
import pytest
from fastapi import FastAPI
from redis import Redis

from gateway.app import create_app
from gateway.job_state import JobReader
from gateway.settings import Settings
from retouche.contract.jobs import JobReport
from retouche.coordination import (
    CURATE_FUNCTION,
    ENQUEUE_WINDOW,
    RECOVERED_KEY,
    progress_key,
    shard_task_id,
)
from retouche.queue import curate_queue
from retouche.store import ObjectStore
from tests.gateway.full_store import FullStore
from tests.gateway.server import NOTHING_LISTENS, serve
from tests.gateway.shards import finish_shard, give_up_shard
from tests.until import until

THREE_SHARDS = {"prompts": [f"prompt {index}" for index in range(130)]}


@pytest.fixture
def redis(redis_url: str) -> Redis:
    return Redis.from_url(redis_url)


def submit(gateway: httpx2.Client, spec: object = THREE_SHARDS) -> str:
    answer = gateway.post("/v1/jobs", json=spec)
    assert answer.status_code == 201, answer.text
    return str(answer.json()["id"])


def queued(redis: Redis) -> list[int]:
    return sorted(int(task.rsplit("_", 1)[1]) for task in curate_queue(redis).job_ids)


def test_a_job_is_enqueued_shard_by_shard(gateway: httpx2.Client, redis: Redis) -> None:
    job_id = submit(gateway)
    job = gateway.get(f"/v1/jobs/{job_id}").json()
    assert (job["state"], job["prompts"], job["shards"], job["shards_finished"]) == ("queued", 130, 3, 0)
    task = curate_queue(redis).fetch_job(shard_task_id(job_id, 2))
    assert task is not None
    assert (task.func_name, list(task.args)) == (CURATE_FUNCTION, [job_id, 2])
    assert queued(redis) == [0, 1, 2]


def test_the_same_specification_is_the_same_job(gateway: httpx2.Client, redis: Redis) -> None:
    job_id = submit(gateway)
    again = gateway.post("/v1/jobs", json=THREE_SHARDS)
    assert (again.status_code, again.json()["id"]) == (200, job_id)
    assert queued(redis) == [0, 1, 2]
    assert submit(gateway, THREE_SHARDS | {"seed": 1}) != job_id


def test_a_large_job_puts_only_a_window_into_redis(gateway: httpx2.Client, redis: Redis) -> None:
    body = "".join(f"prompt {index}\n" for index in range(64 * 40)).encode()
    uploaded = gateway.post("/v1/prompts", content=body, headers={"content-type": "text/plain"}).json()
    job_id = submit(gateway, {"prompt_set": uploaded["prompt_set"]})
    assert gateway.get(f"/v1/jobs/{job_id}").json()["shards"] == 40
    assert queued(redis) == list(range(ENQUEUE_WINDOW))


def test_progress_adds_finished_shards_and_live_ones(
    gateway: httpx2.Client, store: ObjectStore, redis: Redis
) -> None:
    job_id = submit(gateway)
    finish_shard(store, job_id, 1, pairs=5)
    redis.hset(progress_key(job_id), "0", JobReport(prompts=10, pairs=2).model_dump_json())
    redis.hset(progress_key(job_id), "1", JobReport(prompts=60, pairs=4).model_dump_json())  # finished since
    redis.hset(progress_key(job_id), "2", JobReport(prompts=40, pairs=9).model_dump_json())  # its worker died
    give_up_shard(store, job_id, 2, "its worker died again and again")
    job = gateway.get(f"/v1/jobs/{job_id}").json()
    assert (job["state"], job["shards_finished"]) == ("running", 1)
    assert (job["report"]["prompts"], job["report"]["pairs"]) == (74, 7)
    assert job["report"]["dropped"] == {"generation_failed": 1}


def test_a_job_is_finished_when_all_its_shards_are_there(gateway: httpx2.Client, store: ObjectStore) -> None:
    job_id = submit(gateway)
    for shard in range(3):
        finish_shard(store, job_id, shard, pairs=1)
    assert gateway.get(f"/v1/jobs/{job_id}").json()["state"] == "finished"
    for verb in ("cancel", "retry"):
        refused = gateway.post(f"/v1/jobs/{job_id}/{verb}")
        assert (refused.status_code, refused.json()["type"]) == (409, "urn:retouche:conflict")


def test_a_failed_job_says_why_and_runs_only_what_is_missing_again(
    gateway: httpx2.Client, store: ObjectStore, redis: Redis
) -> None:
    job_id = submit(gateway)
    redis.flushall()  # the worker has taken them all
    finish_shard(store, job_id, 0, pairs=1)
    give_up_shard(store, job_id, 1, "editing was away for 600 s")
    assert gateway.get(f"/v1/jobs/{job_id}").json()["state"] == "running"
    give_up_shard(store, job_id, 2, "editing was away for 600 s")
    job = gateway.get(f"/v1/jobs/{job_id}").json()
    assert (job["state"], job["shards_failed"]) == ("failed", 2)
    assert job["error"] == "shard 1: editing was away for 600 s"
    assert gateway.post("/v1/recover").json()["jobs"] == []
    assert gateway.post(f"/v1/jobs/{job_id}/retry").json()["state"] == "running"
    assert queued(redis) == [1, 2]


def test_a_cancelled_job_keeps_what_is_finished_and_can_go_on(
    gateway: httpx2.Client, store: ObjectStore, redis: Redis
) -> None:
    job_id = submit(gateway)
    finish_shard(store, job_id, 0, pairs=1)
    assert gateway.post(f"/v1/jobs/{job_id}/cancel").json()["state"] == "cancelled"
    redis.flushall()
    assert gateway.post("/v1/recover").json()["jobs"] == []
    assert gateway.post(f"/v1/jobs/{job_id}/retry").json()["state"] == "running"
    assert queued(redis) == [1, 2]


def test_a_shard_whose_worker_died_again_and_again_is_given_up(gateway: httpx2.Client, redis: Redis) -> None:
    job_id = submit(gateway, {"prompts": ["a red circle"]})
    task = curate_queue(redis).fetch_job(shard_task_id(job_id, 0))
    assert task is not None
    redis.hset(task.key, "status", "failed")
    redis.hset(progress_key(job_id), "0", JobReport(images=60, pairs=40).model_dump_json())
    gateway.post("/v1/recover")
    job = gateway.get(f"/v1/jobs/{job_id}").json()
    assert (job["state"], job["report"]["images"], job["report"]["pairs"]) == ("failed", 0, 0)
    assert not redis.exists(progress_key(job_id)), "a retry would begin with what the dead worker had told"
    assert "worker died" in job["error"]
    redis.delete("rq:queue:curate")
    assert gateway.post(f"/v1/jobs/{job_id}/retry").json()["state"] == "queued"
    assert queued(redis) == [0]


def test_losing_redis_whole_loses_nothing(gateway: httpx2.Client, store: ObjectStore, redis: Redis) -> None:
    job_id = submit(gateway)
    finish_shard(store, job_id, 1, pairs=1)
    redis.flushall()
    for _ in range(2):
        recovered = gateway.post("/v1/recover").json()["jobs"]
        assert [job["id"] for job in recovered] == [job_id]
        assert queued(redis) == [0, 2]


def test_a_starting_gateway_recovers(gateway: httpx2.Client, settings: Settings, redis: Redis) -> None:
    submit(gateway)
    redis.flushall()
    with serve(create_app(settings.model_copy(update={"recover_seconds": 0.05}))):
        until(lambda: queued(redis) == [0, 1, 2])


def test_an_emptied_redis_is_noticed(gateway: httpx2.Client, settings: Settings, redis: Redis) -> None:
    with serve(create_app(settings.model_copy(update={"upkeep_seconds": 0.05}))):
        submit(gateway)
        until(lambda: redis.exists(RECOVERED_KEY))
        redis.flushall()
        until(lambda: queued(redis) == [0, 1, 2])


def test_prometheus_is_told_of_the_queues(gateway: httpx2.Client, settings: Settings) -> None:
    submit(gateway)
    with serve(create_app(settings.model_copy(update={"upkeep_seconds": 0.05}))) as other:
        told = 'retouche_queue_tasks{queue="curate",state="waiting"} 3.0'
        until(lambda: told in other.get("/metrics").text)


def test_without_redis_jobs_are_told_and_new_ones_kept_until_it_is_back(
    gateway: httpx2.Client, settings: Settings, store: ObjectStore, redis: Redis
) -> None:
    known = submit(gateway)
    finish_shard(store, known, 0, pairs=2)
    redis.flushall()
    cut_off = settings.model_copy(update={"redis_url": NOTHING_LISTENS.replace("http", "redis")})
    with serve(create_app(cut_off)) as lonely:
        assert lonely.get(f"/v1/jobs/{known}").json()["report"]["pairs"] == 2
        assert lonely.get(f"/v1/jobs/{known}/pairs").status_code == 200
        refused = lonely.post("/v1/jobs", json={"prompts": ["a red circle"]})
        assert (refused.status_code, refused.json()["type"]) == (503, "urn:retouche:queue-unavailable")
        assert refused.json()["retryable"]
        assert "retry-after" in refused.headers
        assert len(lonely.get("/v1/jobs").json()["jobs"]) == 2
    again = gateway.post("/v1/jobs", json={"prompts": ["a red circle"]})  # what a client does after a 503
    assert again.status_code == 200
    assert queued(redis) == [0]


def test_jobs_are_listed_newest_first_page_by_page(gateway: httpx2.Client, folder: Path) -> None:
    submitted = [submit(gateway, {"prompts": ["x"], "seed": seed}) for seed in range(5)]
    (folder / "jobs" / "job-0000000000000000").mkdir()  # left by a store that was full
    seen, cursor = [], None
    while True:
        page = gateway.get("/v1/jobs", params={"limit": 2} | ({"cursor": cursor} if cursor else {})).json()
        seen += [job["id"] for job in page["jobs"]]
        cursor = page["next_cursor"]
        if cursor is None:
            break
    assert seen == submitted[::-1]


def test_a_full_store_is_said_and_nothing_is_half_written(
    app: FastAPI, gateway: httpx2.Client, store: ObjectStore, redis: Redis
) -> None:
    app.state.store = FullStore(store.url)
    refused = [
        gateway.post("/v1/jobs", json=THREE_SHARDS),
        gateway.post("/v1/prompts", content=b"x\n", headers={"content-type": "text/plain"}),
    ]
    for answer in refused:
        assert (answer.status_code, answer.json()["type"]) == (507, "urn:retouche:store-full")
    assert gateway.get("/v1/jobs").json()["jobs"] == []
    assert queued(redis) == []


@pytest.mark.parametrize(
    ("spec", "field"),
    [
        ('{"prompts": [""]}', "prompts.0"),
        ('{"prompts": ["%s"]}' % ("x" * 100_000), "prompts.0"),
        (r'{"prompts": ["\ud800"]}', "prompts.0"),
        ('{"prompts": []}', "prompts"),
        ('{"prompts": ["x"], "colour": 1}', "colour"),
        ('{"prompts": ["x"], "images_per_prompt": 1000000}', "images_per_prompt"),
        ('{"prompts": ["x"], "generation": {"width": 100000}}', "generation.width"),
        ('{"prompts": ["x"], "generation": {"width": 33}}', "generation.width"),
        ('{"prompts": ["x"], "rewards": [{"name": "a", "margin": 1e999}]}', "rewards.0.margin"),
        ('{"prompts": ["x"], "rewards": [{"name": "a", "margin": NaN}]}', "rewards.0.margin"),
        ('{"prompts": ["x"], "seed": -1}', "seed"),
        ('{"prompts": ["x"], "prompt_set": "sha256:%s"}' % ("0" * 64), "body"),
        ("{}", "body"),
        ('{"prompts": ["x"], "profile": "sdxl"}', "profile"),
        ('{"prompts": ["x"], "rewards": [{"name": "hpsv2"}]}', "rewards.0.name"),
    ],
)
def test_a_bad_specification_is_refused_with_its_field(gateway: httpx2.Client, spec: str, field: str) -> None:
    answer = gateway.post("/v1/jobs", content=spec, headers={"content-type": "application/json"})
    assert (answer.status_code, answer.json()["type"]) == (422, "urn:retouche:invalid-payload")
    assert len(answer.json()["detail"]) < 500
    assert field in [entry["field"] for entry in answer.json()["fields"]]
    assert gateway.get("/v1/jobs").json()["jobs"] == []


def test_a_prompt_set_that_is_not_in_the_store_says_what_to_do(gateway: httpx2.Client) -> None:
    answer = gateway.post("/v1/jobs", json={"prompt_set": "sha256:" + "0" * 64})
    assert (answer.status_code, answer.json()["type"]) == (404, "urn:retouche:not-found")
    assert "POST /v1/prompts" in answer.json()["detail"]


@pytest.mark.parametrize("path", ["", "/pairs", "/traces", "/events"])
def test_a_job_that_does_not_exist_is_not_found(gateway: httpx2.Client, path: str) -> None:
    answer = gateway.get(f"/v1/jobs/job-0000000000000000{path}")
    assert (answer.status_code, answer.json()["type"]) == (404, "urn:retouche:job-not-found")


def test_what_is_no_json_is_refused(gateway: httpx2.Client) -> None:
    answer = gateway.post("/v1/jobs", content="{'x'}", headers={"content-type": "application/json"})
    assert (answer.status_code, answer.json()["type"]) == (400, "urn:retouche:bad-request")


class Meanwhile:
    """A Redis that answers what it knew before the shard was finished, once somebody else has looked."""

    def __init__(self, happens: Callable[[], Awaitable[object]]) -> None:
        self.happens = happens
        self.asked = 0

    async def hgetall(self, _: str) -> dict[bytes, str]:
        self.asked += 1
        if self.asked == 1:
            await self.happens()
        return {b"0": JobReport(prompts=64, images=64, pairs=20).model_dump_json()}


def test_a_shard_that_is_finished_while_two_look_is_counted_once(
    gateway: httpx2.Client, store: ObjectStore
) -> None:
    job_id = submit(gateway)

    async def finish_and_look() -> None:
        await asyncio.to_thread(finish_shard, store, job_id, 0, 20)
        assert (await reader.job(job_id)).report.pairs == 20

    reader = JobReader(store, cast(Any, Meanwhile(finish_and_look)))
    found = asyncio.run(reader.job(job_id))
    assert (found.shards_finished, found.report.pairs, found.report.images) == (1, 20, 64)
