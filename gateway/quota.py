"""How many jobs and runs a tenant may have under way: each leaves a mark in the store until it has ended.

Marks of what has ended are cleared when there seem to be too many: nobody has to be there when a job ends.
"""

import asyncio

from fastapi import FastAPI

from gateway.job_state import JobReader
from gateway.run_state import RunReader
from gateway.settings import Settings
from retouche.errors import NotFound, Overloaded
from retouche.store import ObjectStore
from retouche.tenancy import owned, owned_path

_RETRY_SECONDS = 30.0


async def reserve(app: FastAPI, tenant: str, identifier: str) -> None:
    """Count a job or run that is about to be set going among those under way.

    The mark is set before it is counted: of two that come at once for the last place none gets two.

    Raises:
        Overloaded: the tenant has as many under way as it may.
    """
    settings: Settings = app.state.settings
    store: ObjectStore = app.state.store
    mark = owned_path(tenant, "active", identifier)
    if not settings.require_keys or not await store.create(mark, b""):
        return
    most = settings.tenant_active_jobs
    if len(await owned(store, tenant, "active")) <= most:
        return
    others = [each for each in await owned(store, tenant, "active") if each != identifier]
    ended = await asyncio.gather(*(_ended(app, each) for each in others))
    for each, has_ended in zip(others, ended, strict=True):
        if has_ended:
            await store.delete(owned_path(tenant, "active", each))
    if ended.count(False) >= most:
        await store.delete(mark)
        raise Overloaded(
            f"tenant {tenant!r} has {ended.count(False)} jobs and runs under way and may have {most}; "
            "wait for one to end, or cancel one",
            retry_after_seconds=_RETRY_SECONDS,
        )


async def _ended(app: FastAPI, identifier: str) -> bool:
    jobs: JobReader = app.state.reader
    runs: RunReader = app.state.runs
    try:
        if identifier.startswith("job-"):
            return not await jobs.pending(identifier)
        return (await runs.run(identifier)).state in ("finished", "failed", "cancelled")
    except NotFound:
        return True  # whoever set the mark died before there was a job
