"""Server-sent events: the state at once, then every change, then the end."""

from collections.abc import Iterator

import httpx2
from redis import Redis

from gateway.app import create_app
from gateway.settings import Settings
from retouche.contract.jobs import JobEvent
from retouche.coordination import events_channel
from retouche.store import ObjectStore
from tests.gateway.server import NOTHING_LISTENS, serve
from tests.gateway.shards import finish_shard


def events(answer: httpx2.Response) -> Iterator[JobEvent]:
    for line in answer.iter_lines():
        if line.startswith("data: "):
            yield JobEvent.model_validate_json(line.removeprefix("data: "))


def test_a_job_is_followed_to_its_end(gateway: httpx2.Client, store: ObjectStore, redis_url: str) -> None:
    job_id = gateway.post("/v1/jobs", json={"prompts": ["x"] * 100}).json()["id"]
    with gateway.stream("GET", f"/v1/jobs/{job_id}/events") as answer, Redis.from_url(redis_url) as redis:
        assert answer.headers["content-type"].startswith("text/event-stream")
        told = events(answer)
        assert next(told).job.shards_finished == 0
        for shard in range(2):
            finish_shard(store, job_id, shard, pairs=3)
            redis.publish(events_channel(job_id), "shard")
            event = next(told)
            assert event.job.report.pairs == 3 * (shard + 1)
        assert (event.event, event.job.state) == ("finished", "finished")
        assert list(told) == []


def test_whoever_comes_late_or_again_gets_the_state_as_it_is(gateway: httpx2.Client) -> None:
    job_id = gateway.post("/v1/jobs", json={"prompts": ["x"]}).json()["id"]
    gateway.post(f"/v1/jobs/{job_id}/cancel")
    with gateway.stream("GET", f"/v1/jobs/{job_id}/events", headers={"last-event-id": "7"}) as answer:
        (event,) = events(answer)
    assert event.event == "cancelled"


def test_without_redis_the_store_alone_tells(
    gateway: httpx2.Client, settings: Settings, store: ObjectStore
) -> None:
    job_id = gateway.post("/v1/jobs", json={"prompts": ["x"]}).json()["id"]
    cut_off = settings.model_copy(update={"redis_url": NOTHING_LISTENS.replace("http", "redis")})
    with (
        serve(create_app(cut_off)) as lonely,
        lonely.stream("GET", f"/v1/jobs/{job_id}/events") as answer,
    ):
        told = events(answer)
        next(told)
        finish_shard(store, job_id, 0, pairs=1)
        assert next(told).event == "finished"
