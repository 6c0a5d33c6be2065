"""Make, list and revoke API keys."""

from typing import Annotated

from fastapi import APIRouter, Path, Request, Response

from gateway.callers import ADMIN
from gateway.key_store import KeyStore
from retouche.contract.keys import KeyId, KeyPage, KeyRequest, NewKey

router = APIRouter(tags=["keys"], dependencies=[ADMIN])


@router.post("/v1/keys", status_code=201)
async def create(wanted: KeyRequest, request: Request) -> NewKey:
    """Make a key for a tenant; the answer alone holds it."""
    return await _keys(request).create(wanted)


@router.get("/v1/keys")
async def listing(request: Request) -> KeyPage:
    """Every key of every tenant, without secrets."""
    return KeyPage(keys=await _keys(request).all())


@router.delete("/v1/keys/{key_id}", status_code=204, response_class=Response)
async def revoke(key_id: Annotated[KeyId, Path()], request: Request) -> None:
    """Let a key open nothing more, at other gateways within seconds."""
    await _keys(request).revoke(key_id)


def _keys(request: Request) -> KeyStore:
    keys: KeyStore = request.app.state.keys
    return keys
