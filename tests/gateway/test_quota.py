"""A tenant may call so often and have so much under way; beyond it is told when to come back."""

import asyncio
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

import httpx2
import pytest
from pydantic import SecretStr

from gateway.app import create_app
from gateway.settings import Settings
from retouche.contract.jobs import CurationSpec
from retouche.store import ObjectStore, run
from retouche.tenancy import owned_path
from tests.gateway.server import NOTHING_LISTENS, serve
from tests.gateway.shards import finish_shard
from tests.gateway.tenants import ADMIN_KEY, made
from tests.until import until

Guarded = Callable[..., httpx2.Client]


@pytest.fixture
def guarded(settings: Settings) -> Iterator[Guarded]:
    """Starts gateways that want keys, with settings of one's own."""
    with ExitStack() as gateways:

        def start(**values: object) -> httpx2.Client:
            wanting = {"require_keys": True, "admin_key": SecretStr(ADMIN_KEY), **values}
            return gateways.enter_context(serve(create_app(settings.model_copy(update=wanting))))

        yield start


def job(seed: int) -> dict[str, object]:
    return {"prompts": ["a red circle"], "seed": seed}


def test_a_job_beyond_the_quota_is_refused_and_not_kept(
    guarded: Guarded, store: ObjectStore, folder: Path
) -> None:
    gateway = guarded(tenant_active_jobs=2)
    acme, other = made(gateway, "acme", "curate", "read"), made(gateway, "other", "curate")
    first, second = (gateway.post("/v1/jobs", json=job(seed), headers=acme).json()["id"] for seed in (1, 2))
    before = sorted(path for path in folder.rglob("*") if path.is_file())
    refused = gateway.post("/v1/jobs", json=job(3) | {"prompts": ["never kept"]}, headers=acme)
    assert (refused.status_code, refused.json()["type"]) == (429, "urn:retouche:overloaded")
    assert "has 2 jobs and runs under way and may have 2" in refused.json()["detail"]
    assert refused.headers["retry-after"] == "30"
    assert sorted(path for path in folder.rglob("*") if path.is_file()) == before
    assert gateway.post("/v1/jobs", json=job(1), headers=acme).status_code == 200, "it is known already"
    assert gateway.post("/v1/jobs", json=job(3), headers=other).status_code == 201, "it is acme's quota"

    finish_shard(store, first, 0, pairs=1)
    assert gateway.post("/v1/jobs", json=job(3), headers=acme).status_code == 201
    gateway.post(f"/v1/jobs/{second}/cancel", headers=acme)
    assert gateway.post("/v1/jobs", json=job(4), headers=acme).status_code == 201
    assert gateway.post(f"/v1/jobs/{second}/retry", headers=acme).status_code == 429


def test_a_job_beyond_the_quota_is_refused_while_it_is_being_refused_elsewhere(
    guarded: Guarded, store: ObjectStore
) -> None:
    gateway = guarded(tenant_active_jobs=1)
    acme = made(gateway, "acme", "curate")
    first = gateway.post("/v1/jobs", json=job(1), headers=acme).json()["id"]
    second = owned_path("acme", "active", CurationSpec.model_validate(job(2)).job_id("acme"))
    run(store.create(second, str(time.time()).encode()))  # another gateway has got as far as its mark
    assert gateway.post("/v1/jobs", json=job(2), headers=acme).status_code == 429
    assert run(store.exists(second)), "it is the other gateway's to take away"
    assert gateway.post("/v1/jobs", json=job(1), headers=acme).json()["id"] == first


def test_a_job_that_is_just_being_submitted_counts(guarded: Guarded, store: ObjectStore) -> None:
    gateway = guarded(tenant_active_jobs=1)
    acme = made(gateway, "acme", "curate")
    elsewhere = owned_path("acme", "active", "job-" + "0" * 16)
    run(store.create(elsewhere, str(time.time()).encode()))  # another gateway is about to write its record
    assert gateway.post("/v1/jobs", json=job(1), headers=acme).status_code == 429
    assert run(store.exists(elsewhere))
    run(store.put(elsewhere, str(time.time() - 100).encode()))  # it died before it could
    assert gateway.post("/v1/jobs", json=job(1), headers=acme).status_code == 201
    assert not run(store.exists(elsewhere))


def test_runs_count_too(guarded: Guarded, store: ObjectStore) -> None:
    gateway = guarded(tenant_active_jobs=1)
    acme = made(gateway, "acme", "curate", "train")
    curated = gateway.post("/v1/jobs", json=job(1), headers=acme).json()["id"]
    following = {"data": {"job": curated, "follow": True}}
    assert gateway.post("/v1/runs", json=following, headers=acme).status_code == 429
    finish_shard(store, curated, 0, pairs=1)
    training = gateway.post("/v1/runs", json=following, headers=acme).json()["id"]
    assert gateway.post("/v1/jobs", json=job(2), headers=acme).status_code == 429
    gateway.post(f"/v1/runs/{training}/cancel", headers=acme)
    assert gateway.post("/v1/jobs", json=job(2), headers=acme).status_code == 201


class WaitingStore(ObjectStore):
    """Waits before it takes away that something was cancelled."""

    def __init__(self, url: str) -> None:
        super().__init__(url)
        self.waiting, self.go_on = threading.Event(), threading.Event()

    async def delete(self, path: str) -> None:
        if path.endswith("/cancelled"):
            self.waiting.set()
            await asyncio.to_thread(self.go_on.wait, 30)
        await super().delete(path)


@pytest.mark.parametrize(("kind", "spec"), [("jobs", job(1)), ("runs", {"data": {"pick_a_pic": "/data"}})])
def test_what_is_being_retried_counts_while_it_still_looks_ended(
    settings: Settings, store: ObjectStore, kind: str, spec: dict[str, object]
) -> None:
    """Nobody gets its place meanwhile, and from the end of the retry on it has its mark, come what may."""
    wanting = {"require_keys": True, "admin_key": SecretStr(ADMIN_KEY), "tenant_active_jobs": 1}
    app, waiting = create_app(settings.model_copy(update=wanting)), WaitingStore(store.url)
    with serve(app) as gateway, ThreadPoolExecutor() as elsewhere:
        app.state.store = waiting
        acme = made(gateway, "acme", "admin", "curate", "train")
        retried = gateway.post(f"/v1/{kind}", json=spec, headers=acme).json()["id"]
        mark = owned_path("acme", "active", retried)
        gateway.post(f"/v1/{kind}/{retried}/cancel", headers=acme)
        retry = elsewhere.submit(gateway.post, f"/v1/{kind}/{retried}/retry", headers=acme)
        until(waiting.waiting.is_set)
        meanwhile = gateway.post("/v1/jobs", json=job(2), headers=acme)
        run(store.delete(mark))  # another gateway had found that it has ended before it was retried
        waiting.go_on.set()
        assert (meanwhile.status_code, retry.result().status_code) == (429, 200)
        assert run(store.exists(mark))
        assert gateway.post("/v1/jobs", json=job(2), headers=acme).status_code == 429
        gateway.post(f"/v1/{kind}/{retried}/cancel", headers=acme)
        assert gateway.post("/v1/jobs", json=job(2), headers=acme).status_code == 201


def test_calls_beyond_the_rate_are_refused_at_whichever_gateway(guarded: Guarded) -> None:
    rate = {"tenant_requests_per_second": 0.001, "tenant_request_burst": 3}
    gateways = [guarded(**rate), guarded(**rate)]
    acme, other = (made(gateways[0], tenant, "read") for tenant in ("acme", "other"))
    answers = [gateways[call % 2].get("/v1/jobs", headers=acme) for call in range(5)]
    assert [answer.status_code for answer in answers] == [200, 200, 200, 429, 429]
    assert "may call 0.001 times a second, 3 at once" in answers[3].json()["detail"]
    assert int(answers[3].headers["retry-after"]) > 900
    assert gateways[0].get("/v1/jobs", headers=other).status_code == 200


def test_without_redis_calls_are_answered_uncounted(guarded: Guarded) -> None:
    cut_off = NOTHING_LISTENS.replace("http", "redis")
    gateway = guarded(tenant_requests_per_second=0.001, tenant_request_burst=1, redis_url=cut_off)
    acme = made(gateway, "acme", "read")
    assert [gateway.get("/v1/jobs", headers=acme).status_code for _ in range(3)] == [200, 200, 200]


def test_an_open_gateway_counts_nothing(gateway: httpx2.Client, folder: Path) -> None:
    for seed in range(20):
        assert gateway.post("/v1/jobs", json=job(seed)).status_code == 201
    assert not (folder / "tenants" / "local" / "active").exists()


def test_a_tenant_follows_so_many_jobs_at_once(guarded: Guarded) -> None:
    gateway = guarded(tenant_followers=2)
    acme, other = made(gateway, "acme", "curate", "read"), made(gateway, "other", "curate", "read")
    events, others = (
        f"/v1/jobs/{gateway.post('/v1/jobs', json=job(1), headers=who).json()['id']}/events"
        for who in (acme, other)
    )
    with ExitStack() as streams:
        reading = []

        def follow(path: str, who: dict[str, str]) -> httpx2.Response:
            answer = streams.enter_context(gateway.stream("GET", path, headers=who))
            if answer.is_success:
                reading.append(answer.iter_lines())  # whoever drops it closes the stream
                next(reading[-1])
            return answer

        first, _ = follow(events, acme), follow(events, acme)
        refused = gateway.get(events, headers=acme)
        assert refused.status_code == 429
        assert "follows 2 jobs and runs at this gateway" in refused.json()["detail"]
        assert refused.headers["retry-after"] == "10"
        assert follow(others, other).is_success, "it is acme that follows two"
        first.close()
        until(lambda: follow(events, acme).is_success)
