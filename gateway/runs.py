"""Submit, list, inspect, follow, cancel and retry training runs, and fetch what they made."""

import asyncio
import json
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from functools import partial
from typing import Annotated, Any

from fastapi import APIRouter, FastAPI, Query, Request, Response
from fastapi.responses import StreamingResponse
from fastapi.sse import EventSourceResponse, ServerSentEvent
from redis.exceptions import RedisError

from gateway import changes
from gateway.callers import READ, TRAIN, Caller, TheCaller
from gateway.decisions import DecisionReader
from gateway.deployed import check_base, check_deployed, check_folders
from gateway.followers import ROOM_TO_FOLLOW, following
from gateway.idempotency import IdempotencyKey, once
from gateway.job_state import JobReader
from gateway.one_by_one import one_by_one
from gateway.ownership import OwnRun
from gateway.quota import reserve, retried
from gateway.records import page_after
from gateway.run_state import RunReader
from retouche import queue
from retouche.contract.payload import RunId
from retouche.contract.runs import (
    Anchored,
    Artifact,
    DiffusionRpo,
    Run,
    RunEvent,
    RunPage,
    RunRecord,
    RunSpec,
)
from retouche.errors import Conflict, NotFound, QueueUnavailable
from retouche.profile import Profile
from retouche.store import ObjectStore, run_path
from retouche.tenancy import own

router = APIRouter(tags=["runs"])

NOTHING_DECIDED = datetime(1970, 1, 1, tzinfo=UTC)  # a constant: submitted again, it is the same run

_LINES: dict[int | str, dict[str, Any]] = {
    200: {"content": {"application/x-ndjson": {"schema": {"type": "string"}}}}
}
_FILE: dict[int | str, dict[str, Any]] = {
    200: {"content": {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}}}
}


@router.post(
    "/v1/runs",
    status_code=201,
    responses={200: {"model": Run, "description": "It is known"}},
    dependencies=[TRAIN],
)
async def submit(
    spec: RunSpec,
    caller: TheCaller,
    request: Request,
    response: Response,
    idempotency_key: IdempotencyKey = None,
) -> Run:
    """Start a training run. The same specification is the same run: 200 if it is known already."""

    async def make() -> Run:
        return await _submit(spec, caller, request, response)

    return await once(request, response, (caller.tenant, idempotency_key), spec, Run, make)


async def _submit(spec: RunSpec, caller: Caller, request: Request, response: Response) -> Run:
    state, tenant = request.app.state, caller.tenant
    check_deployed(request, spec.profile)
    check_folders(request, caller, spec)
    complete = _with_defaults(spec, state.profile)
    check_base(complete.base or "", state.profile)
    for job_id in (complete.data.job, *complete.data.more_jobs):
        if job_id is not None:
            await _check_job(state.reader, tenant, job_id, complete.data.follow)
    complete = await _with_decisions_known(complete, state.decisions)
    run_id = complete.run_id(tenant)
    record = RunRecord(id=run_id, tenant=tenant, spec=complete, created_at=datetime.now(UTC))
    path = run_path(run_id, "spec.json")
    if not await state.store.exists(path):
        await reserve(request.app, tenant, run_id)
    await own(state.store, tenant, "runs", run_id)
    if not await state.store.create(path, record.model_dump_json().encode()):
        response.status_code = 200
    await _enqueue_pending(request.app, run_id)
    return await _reader(request).run(run_id)


@router.get("/v1/runs", dependencies=[READ])
async def listing(
    caller: TheCaller,
    request: Request,
    limit: Annotated[int, Query(ge=1, le=200)] = 50,
    cursor: RunId | None = None,
) -> RunPage:
    """Runs, the newest first; `cursor` is the last page's `next_cursor`."""
    reader = _reader(request)
    page, following = page_after(await reader.of(caller.tenant), cursor, limit)
    return RunPage(runs=await asyncio.gather(*map(reader.run, page)), next_cursor=following)


@router.get("/v1/runs/{run_id}", dependencies=[READ])
async def show(run_id: OwnRun, request: Request) -> Run:
    """One run and how far it has come."""
    return await _reader(request).run(run_id)


@router.post("/v1/runs/{run_id}/cancel", dependencies=[TRAIN])
async def cancel(run_id: OwnRun, request: Request) -> Run:
    """Stop a run after a last checkpoint. Conflict if it has ended already."""
    run = await _reader(request).run(run_id)
    if run.state in ("finished", "failed"):
        raise Conflict(f"run {run_id} is {run.state}: there is nothing to cancel")
    await request.app.state.store.put(run_path(run_id, "cancelled"), b"")
    await changes.announce(request.app.state.redis, run_id, "cancelled")
    return await _reader(request).run(run_id)


@router.post("/v1/runs/{run_id}/retry", dependencies=[TRAIN])
async def retry(run_id: OwnRun, request: Request) -> Run:
    """Go on with a cancelled or failed run from its last checkpoint. Conflict if it is finished."""
    state, run = request.app.state, await _reader(request).run(run_id)
    if run.state == "finished":
        raise Conflict(f"run {run_id} is finished: there is nothing to run again")
    tenant = (await _reader(request).record(run_id)).tenant
    await reserve(request.app, tenant, run_id, retry=True)
    try:
        await asyncio.to_thread(queue.forget_run, state.train_queue, run_id)
    except RedisError as error:
        raise _queue_unavailable(error) from error
    for marker in ("failed.json", "cancelled"):
        await state.store.delete(run_path(run_id, marker))
    await retried(request.app, tenant, run_id)
    await _enqueue_pending(request.app, run_id)
    await changes.announce(state.redis, run_id, "retry")
    return await _reader(request).run(run_id)


@router.get(
    "/v1/runs/{run_id}/events", response_class=EventSourceResponse, dependencies=[READ, ROOM_TO_FOLLOW]
)
async def events(run_id: OwnRun, caller: TheCaller, request: Request) -> AsyncIterator[ServerSentEvent]:
    """The run's state now and whenever it logs, as server-sent events; ends when the run does."""
    with following(request.app.state.followers, caller.tenant):
        async for event in changes.events(request.app.state, run_id, _reader(request).run, RunEvent):
            yield event


@router.get("/v1/runs/{run_id}/metrics", response_class=Response, dependencies=[READ], responses=_LINES)
async def metrics(run_id: OwnRun, request: Request) -> Response:
    """Everything the run has logged, one TrainingMetrics a line."""
    store: ObjectStore = request.app.state.store
    try:
        logged = await store.get(run_path(run_id, "metrics.jsonl"))
    except NotFound:
        logged = b""
    return Response(logged, media_type="application/x-ndjson")


@router.get("/v1/runs/{run_id}/artifacts", dependencies=[READ])
async def artifacts(run_id: OwnRun, request: Request) -> list[Artifact]:
    """The files that the run has made."""
    return await _reader(request).artifacts(run_id)


@router.get(
    "/v1/runs/{run_id}/artifacts/{name:path}", response_class=Response, dependencies=[READ], responses=_FILE
)
async def download(run_id: OwnRun, name: str, request: Request) -> StreamingResponse:
    """One of these files, streamed."""
    known = {artifact.name: artifact.bytes for artifact in await _reader(request).artifacts(run_id)}
    if name not in known:
        raise NotFound(f"run {run_id} has no artifact {name[:80]!r}; it has {', '.join(known) or 'none yet'}")
    store: ObjectStore = request.app.state.store
    return StreamingResponse(
        store.stream(run_path(run_id, f"artifacts/{name}")),
        media_type="application/octet-stream",
        headers={"content-length": str(known[name])},
    )


async def recover_all(app: FastAPI) -> list[str]:
    """Enqueue every run that should be running and is not; returns them."""
    return await one_by_one(await app.state.runs.all(), partial(_enqueue_pending, app))


async def _enqueue_pending(app: FastAPI, run_id: str) -> bool:
    """Enqueue a run that has not ended; one whose worker died again and again has failed."""
    reader: RunReader = app.state.runs
    if await reader.ended(run_id):
        return False
    tenant = (await reader.record(run_id)).tenant
    try:
        outcome = await asyncio.to_thread(queue.enqueue_run, app.state.train_queue, tenant, run_id)
    except RedisError as error:
        raise _queue_unavailable(error) from error
    if outcome == "given-up":
        failure = {"error": "its trainer died again and again; look at the trainer's log, then retry the run"}
        await app.state.store.create(run_path(run_id, "failed.json"), json.dumps(failure).encode())
    return outcome == "enqueued"


def _with_defaults(spec: RunSpec, profile: Profile) -> RunSpec:
    """The profile's base, anchor and relation model where the specification names none."""
    complete = spec
    if spec.base is None:
        base = {"base": profile.generation.model, "revision": profile.generation.revision}
        complete = complete.model_copy(update=base)
    missing: dict[str, object] = {}
    if isinstance(spec.objective, Anchored) and spec.objective.anchor_weight is None:
        missing["anchor_weight"] = profile.training.anchor_weight
    if isinstance(spec.objective, DiffusionRpo) and spec.objective.relation_model is None:
        missing |= _relation_model(profile)
    return complete.model_copy(update={"objective": spec.objective.model_copy(update=missing)})


def _relation_model(profile: Profile) -> dict[str, object]:
    """The profile's first reward model that is a CLIPModel; nothing, where it has none."""
    for reward in profile.rewards.values():
        if reward.is_clip:
            return {
                "relation_model": reward.model,
                "relation_revision": reward.revision,
                "relation_base": reward.base,
                "relation_base_revision": reward.base_revision,
            }
    return {}


async def _with_decisions_known(spec: RunSpec, decisions: DecisionReader) -> RunSpec:
    """What is decided later must not change a run: the newest decision known now is its last one."""
    data = spec.data
    if data.reviewed == "all" or data.reviewed_until is not None:
        return spec
    logs = [await decisions.log(job_id) for job_id in (data.job, *data.more_jobs) if job_id]
    until = max((log[-1].at for log in logs if log), default=NOTHING_DECIDED)
    return spec.model_copy(update={"data": data.model_copy(update={"reviewed_until": until})})


async def _check_job(reader: JobReader, tenant: str, job_id: str, follow: bool) -> None:
    await reader.record_of(tenant, job_id)
    job = await reader.job(job_id)
    if follow:
        return
    if job.state != "finished":
        raise Conflict(
            f"data.job: {job_id} is {job.state}, with {job.shards_finished} of {job.shards} shards; "
            "wait for it, or train on what comes with data.follow"
        )
    if job.report.pairs == 0:
        raise Conflict(f"data.job: {job_id} has no pairs; its report says what was dropped and why")


def _queue_unavailable(error: RedisError) -> QueueUnavailable:
    return QueueUnavailable(
        f"Redis cannot be reached ({error}); the run is kept and goes on once Redis is back",
        retry_after_seconds=5,
    )


def _reader(request: Request) -> RunReader:
    reader: RunReader = request.app.state.runs
    return reader
