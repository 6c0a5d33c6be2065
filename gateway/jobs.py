"""Submit, list, inspect, follow, cancel and retry curation jobs."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import suppress
from datetime import UTC, datetime
from functools import partial
from typing import Annotated

from fastapi import APIRouter, FastAPI, Query, Request, Response
from fastapi.sse import EventSourceResponse, ServerSentEvent
from redis.exceptions import RedisError

from gateway import changes
from gateway.callers import CURATE, READ, TheCaller
from gateway.deployed import check_deployed
from gateway.followers import ROOM_TO_FOLLOW, following
from gateway.idempotency import IdempotencyKey, once
from gateway.job_state import JobReader
from gateway.one_by_one import one_by_one
from gateway.ownership import OwnJob, check_adapter, check_prompt_set
from gateway.prompts import keep_inline
from gateway.quota import reserve, retried
from gateway.records import page_after
from retouche import prompt_sets, queue
from retouche.contract.jobs import (
    SHARD_PROMPTS,
    CurationSpec,
    Job,
    JobEvent,
    JobId,
    JobPage,
    JobRecord,
    PromptSetInfo,
)
from retouche.coordination import progress_key
from retouche.errors import Conflict, QueueUnavailable
from retouche.store import ObjectStore, job_path, shard_path
from retouche.tenancy import own

router = APIRouter(tags=["jobs"])


@router.post(
    "/v1/jobs",
    status_code=201,
    responses={200: {"model": Job, "description": "It is known"}},
    dependencies=[CURATE],
)
async def submit(
    spec: CurationSpec,
    caller: TheCaller,
    request: Request,
    response: Response,
    idempotency_key: IdempotencyKey = None,
) -> Job:
    """Start a curation job. The same specification is the same job: 200 if it is known already.

    The specification is stored before anything is enqueued. Should Redis be down, the answer is 503 and the
    job is kept as queued: it is set going as soon as Redis is back, or when it is submitted again.
    """

    async def make() -> Job:
        return await _submit(spec, caller.tenant, request, response)

    return await once(request, response, (caller.tenant, idempotency_key), spec, Job, make)


async def _submit(spec: CurationSpec, tenant: str, request: Request, response: Response) -> Job:
    store: ObjectStore = request.app.state.store
    check_deployed(request, spec.profile, [rule.name for rule in spec.rewards])
    for adapter in (spec.generation.adapter, spec.editing.adapter):
        await check_adapter(request, tenant, adapter)
    if spec.prompt_set is not None:
        await check_prompt_set(request, tenant, spec.prompt_set)
    job_id = spec.job_id(tenant)
    path = job_path(job_id, "spec.json")
    if not await store.exists(path):
        await reserve(request.app, tenant, job_id)
    prompts = await _prompt_set(store, tenant, spec)
    record = JobRecord(
        id=job_id,
        tenant=tenant,
        spec=spec,
        created_at=datetime.now(UTC),
        prompt_set=prompts.prompt_set,
        prompts=prompts.prompts,
        shards=-(-prompts.prompts // SHARD_PROMPTS),
    )
    await own(store, tenant, "jobs", job_id)
    if not await store.create(path, record.model_dump_json().encode()):
        response.status_code = 200
    await _enqueue_pending(request.app, job_id)
    return await _reader(request).job(job_id)


@router.get("/v1/jobs", dependencies=[READ])
async def listing(
    caller: TheCaller,
    request: Request,
    limit: Annotated[int, Query(ge=1, le=200)] = 50,
    cursor: JobId | None = None,
) -> JobPage:
    """Jobs, the newest first; `cursor` is the last page's `next_cursor`."""
    reader = _reader(request)
    page, following = page_after(await reader.of(caller.tenant), cursor, limit)
    return JobPage(jobs=await asyncio.gather(*map(reader.job, page)), next_cursor=following)


@router.get("/v1/jobs/{job_id}", dependencies=[READ])
async def show(job_id: OwnJob, request: Request) -> Job:
    """One job and how far it has come."""
    return await _reader(request).job(job_id)


@router.post("/v1/jobs/{job_id}/cancel", dependencies=[CURATE])
async def cancel(job_id: OwnJob, request: Request) -> Job:
    """Stop a job: calls under way end, finished shards stay. Conflict if it has ended already."""
    reader = _reader(request)
    job = await reader.job(job_id)
    if job.state in ("finished", "failed"):
        raise Conflict(f"job {job_id} is {job.state}: there is nothing to cancel")
    await request.app.state.store.put(job_path(job_id, "cancelled"), b"")
    await changes.announce(request.app.state.redis, job_id, "cancelled")
    return await reader.job(job_id)


@router.post("/v1/jobs/{job_id}/retry", dependencies=[CURATE])
async def retry(job_id: OwnJob, request: Request) -> Job:
    """Run a cancelled, failed or stuck job again: only what is missing. Conflict if it is finished."""
    reader, store = _reader(request), request.app.state.store
    job = await reader.job(job_id)
    if job.state == "finished":
        raise Conflict(f"job {job_id} is finished: there is nothing to run again")
    record = await reader.record(job_id)
    await reserve(request.app, record.tenant, job_id, retry=True)
    missing = await reader.missing(job_id, record)
    try:
        await asyncio.to_thread(queue.forget_shards, request.app.state.queue, job_id, missing)
    except RedisError as error:
        raise _queue_unavailable(error) from error
    for shard in await reader.given_up(job_id):
        await store.delete(shard_path(job_id, "failed", shard))
    await store.delete(job_path(job_id, "cancelled"))
    await retried(request.app, record.tenant, job_id)
    await _enqueue_pending(request.app, job_id)
    await changes.announce(request.app.state.redis, job_id, "retry")
    return await reader.job(job_id)


@router.get(
    "/v1/jobs/{job_id}/events", response_class=EventSourceResponse, dependencies=[READ, ROOM_TO_FOLLOW]
)
async def events(job_id: OwnJob, caller: TheCaller, request: Request) -> AsyncIterator[ServerSentEvent]:
    """The job's state now and at every change, as server-sent events; ends when the job does."""
    with following(request.app.state.followers, caller.tenant):
        async for event in changes.events(request.app.state, job_id, _reader(request).job, JobEvent):
            yield event


async def recover_all(app: FastAPI) -> list[str]:
    """Fill the queue's window for every job neither finished, cancelled nor failed; returns these jobs."""
    return await one_by_one(await app.state.reader.all(), partial(_enqueue_pending, app))


async def _prompt_set(store: ObjectStore, tenant: str, spec: CurationSpec) -> PromptSetInfo:
    if spec.prompts is not None:
        return await keep_inline(store, tenant, spec.prompts)
    assert spec.prompt_set is not None
    prompts = await prompt_sets.count(store, spec.prompt_set)
    return PromptSetInfo(prompt_set=spec.prompt_set, prompts=prompts)


async def _enqueue_pending(app: FastAPI, job_id: str) -> bool:
    """Fill the window; a shard whose worker died again and again is marked as given up. False: none due."""
    reader: JobReader = app.state.reader
    pending = await reader.pending(job_id)
    if not pending:
        return False
    tenant = (await reader.record(job_id)).tenant
    try:
        given_up = await asyncio.to_thread(queue.fill_window, app.state.queue, tenant, job_id, pending)
    except RedisError as error:
        raise _queue_unavailable(error) from error
    for shard in given_up:
        failure = {"error": "its worker died again and again; look at the worker's log, then retry the job"}
        await app.state.store.create(shard_path(job_id, "failed", shard), json.dumps(failure).encode())
        with suppress(RedisError):  # its worker, which does so else, is dead; nobody counts it any more
            await app.state.redis.hdel(progress_key(job_id), str(shard))
    return True


def _queue_unavailable(error: RedisError) -> QueueUnavailable:
    return QueueUnavailable(
        f"Redis cannot be reached ({error}); the job is kept and goes on once Redis is back",
        retry_after_seconds=5,
    )


def _reader(request: Request) -> JobReader:
    reader: JobReader = request.app.state.reader
    return reader
