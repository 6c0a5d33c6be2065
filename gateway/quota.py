"""How many jobs and runs a tenant may have under way: each leaves a mark in the store until it has ended.

Marks of what has ended are cleared when there seem to be too many: nobody has to be there when a job ends.
"""

import asyncio
import time

from fastapi import FastAPI

from gateway.job_state import JobReader
from gateway.run_state import RunReader
from gateway.settings import Settings
from retouche.errors import NotFound, Overloaded
from retouche.store import ObjectStore
from retouche.tenancy import owned, owned_path

_RETRY_SECONDS = 30.0
_SETTING_OUT_SECONDS = 60.0


async def reserve(app: FastAPI, tenant: str, identifier: str) -> None:
    """Count a job or run that is about to be set going among those under way.

    The mark is set before the others are counted: of two that come at once for the last place one gets it at
    most. That there is a mark says nothing: whoever set it may be about to be refused.

    Raises:
        Overloaded: the tenant has as many under way as it may.
    """
    settings: Settings = app.state.settings
    store: ObjectStore = app.state.store
    mark = owned_path(tenant, "active", identifier)
    if not settings.require_keys:
        return
    new = await store.create(mark, str(time.time()).encode())
    most = settings.tenant_active_jobs
    others = [each for each in await owned(store, tenant, "active") if each != identifier]
    if len(others) < most:
        return
    ended = await asyncio.gather(*(_ended(app, tenant, each) for each in others))
    for each, has_ended in zip(others, ended, strict=True):
        if has_ended:
            await store.delete(owned_path(tenant, "active", each))
    if ended.count(False) >= most:
        if new:
            await store.delete(mark)
        raise Overloaded(
            f"tenant {tenant!r} has {ended.count(False)} jobs and runs under way and may have {most}; "
            "wait for one to end, or cancel one",
            retry_after_seconds=_RETRY_SECONDS,
        )


async def _ended(app: FastAPI, tenant: str, identifier: str) -> bool:
    mark = owned_path(tenant, "active", identifier)
    jobs: JobReader = app.state.reader
    runs: RunReader = app.state.runs
    try:
        if identifier.startswith("job-"):
            return not await jobs.pending(identifier)
        return await runs.ended(identifier)
    except NotFound:
        return await _set_long_ago(app.state.store, mark)


async def _set_long_ago(store: ObjectStore, mark: str) -> bool:
    """Whether whoever set the mark died before there was a job: that takes moments."""
    try:
        return time.time() - float(await store.get(mark) or 0) > _SETTING_OUT_SECONDS
    except NotFound:
        return True
