"""API keys: `Authorization: Bearer KEY` where the gateway has any."""

import hmac
from typing import Annotated

from fastapi import Header, Request

from retouche.errors import Unauthorized


async def require_key(request: Request, authorization: Annotated[str | None, Header()] = None) -> None:
    """Unauthorized unless the request bears one of the gateway's keys, or it has none."""
    keys: list[str] = request.app.state.settings.api_keys
    given = (authorization or "").removeprefix("Bearer ").encode()
    known = [hmac.compare_digest(given, key.encode()) for key in keys]
    if keys and not any(known):
        raise Unauthorized("this gateway wants a key: send `Authorization: Bearer KEY` with one it knows")
