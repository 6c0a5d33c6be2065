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
_RETRY = "retry "


async def reserve(app: FastAPI, tenant: str, identifier: str, *, retry: bool = False) -> None:
    """Count a job or run that is about to be set going among those under way.

    The mark is set before the others are counted: of two that come at once for the last place one gets it at
    most. That there is a mark says nothing: whoever set it may be about to be refused.

    `retry`: it has ended, and counts all the same until `retried`, or for as long as setting out may take.

    Raises:
        Overloaded: the tenant has as many under way as it may.
    """
    settings: Settings = app.state.settings
    store: ObjectStore = app.state.store
    mark = owned_path(tenant, "active", identifier)
    if not settings.require_keys:
        return
    content = f"{_RETRY if retry else ''}{time.time()}".encode()
    new = await store.create(mark, content)
    if retry and not new:
        await store.put(mark, content)
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


async def retried(app: FastAPI, tenant: str, identifier: str) -> None:
    """Nothing says any longer that it has ended: it counts until it ends again.

    Whoever looked before it was reserved may have cleared its mark since: it is written once more.
    """
    if app.state.settings.require_keys:
        await app.state.store.put(owned_path(tenant, "active", identifier), str(time.time()).encode())


async def _ended(app: FastAPI, tenant: str, identifier: str) -> bool:
    jobs: JobReader = app.state.reader
    runs: RunReader = app.state.runs
    # Before it is asked whether it has ended: afterwards a retry may be over, of which that knew nothing.
    retry, setting_out = await _setting_out(app.state.store, owned_path(tenant, "active", identifier))
    if retry and setting_out:
        return False
    try:
        if identifier.startswith("job-"):
            return not await jobs.pending(identifier)
        return await runs.ended(identifier)
    except NotFound:
        return not setting_out


async def _setting_out(store: ObjectStore, mark: str) -> tuple[bool, bool]:
    """Whether a mark is of a retry, and whether it is so new that whoever set it need not have died."""
    try:
        said = (await store.get(mark)).decode()
    except NotFound:
        return False, False
    since = float(said.removeprefix(_RETRY) or 0)
    return said.startswith(_RETRY), time.time() - since <= _SETTING_OUT_SECONDS
