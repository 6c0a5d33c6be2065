"""Whose things an identifier names: of another tenant's, the answer is that there are none."""

import asyncio
from collections.abc import Iterable
from typing import Annotated

from fastapi import Depends, Path, Request

from gateway.callers import TheCaller
from gateway.job_state import JobReader
from gateway.run_state import RunReader
from retouche.contract.jobs import JobId
from retouche.contract.payload import ImageInput, ImageRef, RunId
from retouche.errors import ImageNotFound, NotFound
from retouche.store import ObjectStore
from retouche.tenancy import owns

_ASKED_AT_ONCE = 64  # a request may name tens of thousands


async def _job(job_id: Annotated[JobId, Path()], caller: TheCaller, request: Request) -> str:
    reader: JobReader = request.app.state.reader
    return (await reader.record_of(caller.tenant, job_id)).id


async def _run(run_id: Annotated[RunId, Path()], caller: TheCaller, request: Request) -> str:
    reader: RunReader = request.app.state.runs
    return (await reader.record_of(caller.tenant, run_id)).id


async def _image(image: Annotated[ImageRef, Path()], caller: TheCaller, request: Request) -> str:
    await check_images(request, caller.tenant, [image])
    return image


# Identifiers in a path, once they are known to be the caller's.
OwnJob = Annotated[str, Depends(_job)]
OwnRun = Annotated[str, Depends(_run)]
OwnImage = Annotated[str, Depends(_image)]


async def check_images(request: Request, tenant: str, images: Iterable[ImageInput]) -> None:
    """ImageNotFound unless the tenant may see every one that is a reference."""
    store: ObjectStore = request.app.state.store
    references = list(dict.fromkeys(image for image in images if not image.startswith("data:")))
    for begin in range(0, len(references), _ASKED_AT_ONCE):
        some = references[begin : begin + _ASKED_AT_ONCE]
        theirs = await asyncio.gather(*(owns(store, tenant, "images", image) for image in some))
        if False in theirs:
            image = some[theirs.index(False)]
            raise ImageNotFound(f"image {image} is not in the store; upload it with POST /v1/images first")


async def check_adapter(request: Request, tenant: str, run_id: RunId | None) -> None:
    """RunNotFound unless the run is the tenant's."""
    if run_id is not None:
        reader: RunReader = request.app.state.runs
        await reader.record_of(tenant, run_id)


async def check_prompt_set(request: Request, tenant: str, prompt_set: str) -> None:
    """NotFound unless the tenant has uploaded it."""
    if not await owns(request.app.state.store, tenant, "prompts", prompt_set):
        raise NotFound(f"prompt_set: {prompt_set} is not in the store; upload it with POST /v1/prompts first")
