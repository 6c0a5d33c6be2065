"""How busy the services and the queues are, gathered where each tells it."""

import asyncio
from collections.abc import Iterable
from datetime import UTC, datetime

import httpx2
from fastapi import APIRouter, Request
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.samples import Sample
from redis.exceptions import RedisError
from rq import Queue, Worker

from gateway.callers import READ, Caller, TheCaller
from retouche.client.problems import raise_for_problem, transport_errors
from retouche.client.replicas import addresses
from retouche.contract.overview import Overview, QueueLoad, StageLoad
from retouche.errors import RetoucheError, ServiceUnreachable

router = APIRouter(tags=["stages"])

TIMEOUT_SECONDS = 2.0
_REFUSED = ("429", "503")


@router.get("/v1/overview", dependencies=[READ])
async def overview(caller: TheCaller, request: Request) -> Overview:
    """The queues, and every stage's service: what waits, and counters of what it has done; with `admin` also
    why one is not there, in detail."""
    state = request.app.state
    urls = state.settings.service_urls
    loads = await asyncio.gather(*(_stage(state.replicas, url, caller) for url in urls.values()))
    try:
        curate, train = await asyncio.gather(
            asyncio.to_thread(_queue, state.queue), asyncio.to_thread(_queue, state.train_queue)
        )
    except RedisError:
        queues = None
    else:
        queues = {"curate": curate, "train": train}
    return Overview.model_validate(
        {"at": datetime.now(UTC), "stages": dict(zip(urls, loads, strict=True)), "queues": queues}
    )


async def _stage(client: httpx2.AsyncClient, url: str, caller: Caller) -> StageLoad:
    """What the replicas behind a service's name tell, added up; those that do not answer are left out."""
    address = httpx2.URL(url)
    try:
        hosts = await addresses(address.host, address.port or 80)
    except OSError as error:
        away = ServiceUnreachable(f"{address.host} has no address ({error}); is it running?")
        return StageLoad(replicas=0, detail=caller.told(away))
    replicas = await asyncio.gather(
        *(_replica(client, address.copy_with(host=host), caller) for host in hosts)
    )
    loads = [load for load in replicas if load.replicas]
    if not loads:
        return replicas[0]
    counters = ("answered", "remembered", "refused", "failed", "waiting", "model_seconds")
    sums = {name: sum(getattr(load, name) for load in loads) for name in counters}
    return StageLoad.model_validate({"replicas": len(loads), **sums})


async def _replica(client: httpx2.AsyncClient, url: httpx2.URL, caller: Caller) -> StageLoad:
    """One replica, or why it does not answer."""
    try:
        with transport_errors(str(url)):
            answer = await client.get(url.copy_with(path="/metrics"))
        raise_for_problem(answer)
    except RetoucheError as error:
        return StageLoad(replicas=0, detail=caller.told(error))
    return load_of(
        sample for family in text_string_to_metric_families(answer.text) for sample in family.samples
    )


def load_of(samples: Iterable[Sample]) -> StageLoad:
    """What the meters of retouche/metrics.py say."""
    load = StageLoad(replicas=1)
    for sample in samples:
        value = int(sample.value)
        if sample.name == "retouche_request_seconds_count" and sample.labels["route"].startswith("/v1/"):
            status = sample.labels["status"]
            load.answered += value if status == "200" else 0
            load.refused += value if status in _REFUSED else 0
            load.failed += value if status.startswith("5") and status not in _REFUSED else 0
        elif sample.name == "retouche_memo_answers_total" and sample.labels["outcome"] == "hit":
            load.remembered += value
        elif sample.name == "retouche_waiting_items":
            load.waiting += value
        elif sample.name == "retouche_model_seconds_total":
            load.model_seconds += sample.value
    return load


def _queue(queue: Queue) -> QueueLoad:
    """Raises RedisError where Redis is away."""
    return QueueLoad(
        waiting=queue.count, at_work=queue.started_job_registry.count, workers=Worker.count(queue=queue)
    )
