"""Every stage call is remembered in the store under the hash of stage, models and resolved request."""

import hashlib
import json
from collections.abc import Awaitable, Callable, Mapping

from fastapi import Request, Response
from pydantic import BaseModel

from retouche.contract.payload import ModelIdentity
from retouche.contract.services import MEMO_HEADER
from retouche.store import ObjectStore, memo_path


def memo_key(models: Mapping[str, ModelIdentity], request: BaseModel) -> str:
    """The hex digest of who answers and what is asked, every default resolved."""
    identities = {name: str(model) for name, model in sorted(models.items())}
    content = {"models": identities, "request": request.model_dump(mode="json")}
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


async def remembered(
    store: ObjectStore,
    stage: str,
    models: Mapping[str, ModelIdentity],
    request: BaseModel,
    make: Callable[[], Awaitable[BaseModel]],
) -> tuple[bytes, bool]:
    """The answer remembered for this very request, or the one `make` gives, as JSON; True if remembered.

    `request` must name its images by reference, not by content.
    """

    async def made() -> bytes:
        return (await make()).model_dump_json().encode()

    return await store.create_or_get(memo_path(stage, memo_key(models, request)), made)


async def answered(
    request: Request,
    stage: str,
    models: Mapping[str, ModelIdentity],
    resolved: BaseModel,
    make: Callable[[], Awaitable[BaseModel]],
) -> Response:
    """`remembered` for a route: says in a header and a metric whether the memo had it."""
    state = request.app.state
    content, hit = await remembered(state.store, stage, models, resolved, make)
    outcome = "hit" if hit else "miss"
    state.metrics.memo.labels(outcome).inc()
    return Response(content, headers={MEMO_HEADER: outcome}, media_type="application/json")
