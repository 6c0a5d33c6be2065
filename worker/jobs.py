"""The RQ glue: one job curates one shard and commits it.

A shard is committed by writing its pairs where nothing was; its traces are written before. So a shard that
runs twice, as RQ can make it, changes nothing the second time, and a shard that is killed leaves nothing
half-done: run again, it is answered by the services' memo as far as it had come.
"""

import asyncio
import json
import logging
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from functools import partial

from redis import Redis as BlockingRedis
from redis.asyncio import Redis
from redis.exceptions import RedisError
from redis.typing import EncodableT, FieldT

from retouche import prompt_sets, tracing
from retouche.about import about
from retouche.client.stages import StageClient, bearing
from retouche.contract.jobs import SHARD_PROMPTS, ImageTrace, JobRecord, JobReport, StartingImage
from retouche.contract.payload import ImageRef
from retouche.contract.stages import STAGES
from retouche.coordination import (
    PROGRESSED_SECONDS,
    SHARDS_STREAM,
    SHARDS_STREAM_LENGTH,
    UNUSED_SECONDS,
    events_channel,
    progress_key,
    progressed_key,
    shard_task_id,
)
from retouche.errors import RetoucheError, StoreFull, StoreUnavailable
from retouche.local.process import die_with_parent
from retouche.meters import tell
from retouche.pairs import write_pairs, write_traces
from retouche.queue import curate_queue, enqueue_next
from retouche.store import ObjectStore, job_path, run, shard_path
from retouche.tenancy import own_images
from worker.curate import Curation, ShardPrompts, curate
from worker.limits import Limit, ServiceAway
from worker.prepare import prepare
from worker.settings import Settings

_PUBLISH_SECONDS = 0.5

_log = logging.getLogger("retouche.worker")


def curate_shard(job_id: str, shard: int) -> None:
    """Curate and commit one shard, unless that is done or the job cancelled; then enqueue the next one."""
    die_with_parent()  # or it would go on unseen, beside the worker that takes the shard up again
    settings = Settings()
    with about(job=job_id, shard=shard):
        asyncio.run(_run(settings, job_id, shard))
    tracing.end()


async def _run(settings: Settings, job_id: str, shard: int) -> None:
    store = ObjectStore(settings.store)
    redis = Redis.from_url(settings.redis_url, socket_connect_timeout=3, socket_timeout=10)
    patiently = _patience(settings)
    record = JobRecord.model_validate_json(await patiently(partial(store.get, job_path(job_id, "spec.json"))))
    cancelled = partial(patiently, partial(_cancelled, store, job_id))
    committed = partial(patiently, partial(store.exists, shard_path(job_id, "shards", shard)))
    ended = False
    try:
        while not (ended or await cancelled() or await committed()):
            # Again where the job was cancelled and, while its calls ended, retried: nobody else takes it up.
            ended = await _curate_until_cancelled(settings, store, redis, record, shard)
        with suppress(RedisError):  # only a try that failed asks for it
            await redis.delete(progressed_key(shard_task_id(job_id, shard)))
        if await committed():
            await _tell_consumers(redis, job_id, shard)
        if ended:  # by this run: one that runs twice must not widen the job's window
            await asyncio.to_thread(_next, settings, record)
    finally:
        await _tell(redis, job_id, shard)
        await redis.aclose()


async def _curate_until_cancelled(
    settings: Settings, store: ObjectStore, redis: Redis, record: JobRecord, shard: int
) -> bool:
    """Curate; drop everything when the cancelled marker appears; note a shard that has to be given up.

    Returns whether the shard was committed or given up by this very run.
    """
    job_id = record.id
    work = asyncio.create_task(_curate(settings, store, redis, record, shard))
    try:
        while not (await asyncio.wait({work}, timeout=_PUBLISH_SECONDS))[0]:
            with suppress(StoreUnavailable):  # a look that fails is no reason to drop what is under way
                if await _cancelled(store, job_id):
                    return False
        return await work
    except (ServiceAway, RetoucheError) as error:
        _log.error("given up: %s", error)
        failure = {"shard": shard, "error": str(error)}
        marker = shard_path(job_id, "failed", shard)
        try:
            await store.put(marker, json.dumps(failure).encode())
        except (StoreUnavailable, StoreFull):
            return False  # it was the store that was away or full: once it takes things the shard is curated
        tell("shards", 1, "given_up")
        return True
    finally:
        work.cancel()
        await asyncio.gather(work, return_exceptions=True)


async def _curate(
    settings: Settings, store: ObjectStore, redis: Redis, record: JobRecord, shard: int
) -> bool:
    """Curate and commit; False if another run of the shard was first."""
    began, job_id = time.monotonic(), record.id
    limits = {stage: Limit(stage, settings.most_in_flight, settings.patience_seconds) for stage in STAGES}
    patiently = _patience(settings)
    async with StageClient(
        settings.service_urls,
        timeout_seconds=settings.call_timeout_seconds,
        headers=bearing(settings.internal_token),
    ) as client:
        curation = await prepare(record.spec, client, limits)
        publishing = asyncio.create_task(_publish(redis, job_id, shard, curation))
        try:
            prompts = await patiently(partial(_prompts, store, record, shard))
            pairs, traces = await curate(curation, prompts)
        finally:
            publishing.cancel()
    curation.report.seconds = time.monotonic() - began
    kept = write_traces(traces), write_pairs(pairs, curation.report)
    await patiently(partial(own_images, store, record.tenant, list(_images(traces))))
    if await patiently(partial(store.exists, shard_path(job_id, "shards", shard))):
        return False
    # In the place of those of a try that did not come to its pairs: its calls may have ended otherwise.
    await patiently(partial(store.put, shard_path(job_id, "traces", shard), kept[0]))
    committed = await patiently(partial(store.create, shard_path(job_id, "shards", shard), kept[1]))
    if committed:
        _log.info("committed: %d pairs of %d images", len(pairs), len(traces))
        tell("shards", 1, "committed")
        tell("outcomes", len(pairs), "pair")
        for outcome, count in curation.report.dropped.items():
            tell("outcomes", count, outcome)
    return committed


def _images(traces: Sequence[ImageTrace]) -> Iterator[ImageRef]:
    for trace in traces:
        made = [trace.image, *(edit.image for edit in trace.edits)]
        yield from (image for image in made if image is not None)


async def _tell_consumers(redis: Redis, job_id: str, shard: int) -> None:
    """Tell live consumers of a committed shard: again where a worker died before it could say so."""
    entry: dict[FieldT, EncodableT] = {"job": job_id, "shard": shard}
    with suppress(RedisError):
        await redis.xadd(SHARDS_STREAM, entry, maxlen=SHARDS_STREAM_LENGTH, approximate=True)


def _patience(settings: Settings) -> Limit:
    """For calls of the object store: that it is full or away may pass."""
    return Limit("object store", 1, settings.patience_seconds)


async def _prompts(store: ObjectStore, record: JobRecord, shard: int) -> ShardPrompts:
    """The shard's part of the prompt set, and how often each prompt stood before it."""
    first = shard * SHARD_PROMPTS
    end = min(first + SHARD_PROMPTS, record.prompts)
    entries = await prompt_sets.read(store, record.prompt_set, first, end)
    images = [entry.content for entry in entries if isinstance(entry.content, StartingImage)]
    prompts = [
        entry.content.prompt if isinstance(entry.content, StartingImage) else entry.content
        for entry in entries
    ]
    return ShardPrompts(prompts, first, [entry.repeat for entry in entries], images)


async def _publish(redis: Redis, job_id: str, shard: int, curation: Curation) -> None:
    """Tell how far the shard is, until cancelled."""
    last, fresh = "", 0
    while True:
        report = curation.report.model_dump_json()
        if report != last:
            with suppress(RedisError):
                if (made := _made(curation.report)) > fresh:
                    await redis.set(progressed_key(shard_task_id(job_id, shard)), made, ex=PROGRESSED_SECONDS)
                    fresh = made
                await _keep_progress(redis, job_id, shard, report)
                await redis.publish(events_channel(job_id), "progress")
                last = report
        await asyncio.sleep(_PUBLISH_SECONDS)


async def _keep_progress(redis: Redis, job_id: str, shard: int, report: str) -> None:
    """For a while: a worker that is killed takes nothing back."""
    key = progress_key(job_id)
    async with redis.pipeline() as pipeline:
        pipeline.hset(key, str(shard), report)
        pipeline.expire(key, UNUSED_SECONDS)
        await pipeline.execute()


def _made(report: JobReport) -> int:
    """How many answers are new: what an earlier try of the shard had not come to."""
    return sum(stage.done - stage.remembered for stage in report.stages.values())


async def _cancelled(store: ObjectStore, job_id: str) -> bool:
    return await store.exists(job_path(job_id, "cancelled"))


async def _tell(redis: Redis, job_id: str, shard: int) -> None:
    """The shard has ended: its progress is in the store now, or nowhere."""
    with suppress(RedisError):
        await redis.hdel(progress_key(job_id), str(shard))
        await redis.publish(events_channel(job_id), "shard")


def _next(settings: Settings, record: JobRecord) -> None:
    store = ObjectStore(settings.store)

    def finished(shard: int) -> bool:
        with suppress(StoreUnavailable):
            return run(store.exists(shard_path(record.id, "shards", shard)))
        return False  # as far as anybody knows: a shard that is curated again changes nothing

    with BlockingRedis.from_url(settings.redis_url, socket_connect_timeout=3) as connection:
        enqueue_next(curate_queue(connection), record.tenant, record.id, record.shards, finished)
