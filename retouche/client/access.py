"""A server's address and the key it wants, checked before anything is sent.

What is wrong with them would else come up within a call, as errors of many kinds, some of which show the key.

Raises (all functions):
    BadRequest: it cannot be used; names the address, never the key.
"""

import httpx2

from retouche.errors import BadRequest

_MOST_PORT = 65_535


def address(url: str, given: str) -> str:
    """The address without a slash at its end. `given`: where a person gives it."""
    try:
        parts = httpx2.URL(url)
    except httpx2.InvalidURL as error:
        raise _no_address(url, str(error), given) from None
    if parts.scheme not in ("http", "https"):
        raise _no_address(url, "it begins with neither http:// nor https://", given)
    if not parts.raw_host:
        raise _no_address(url, "it names no host", given)
    if parts.port is not None and not 1 <= parts.port <= _MOST_PORT:
        raise _no_address(url, f"port {parts.port} is not from 1 to {_MOST_PORT}", given)
    return url.rstrip("/")


def authorization(api_key: str | None, given: str) -> dict[str, str]:
    """The header for the key, if there is one. `given`: where a person gives it."""
    if not api_key:
        return {}
    if not (api_key.isascii() and api_key.isprintable() and api_key == api_key.strip()):
        raise BadRequest(
            f"the API key of {len(api_key)} characters cannot be sent: a key is printable ASCII, no blanks "
            f"around it; copy it again ({given})"
        )
    return {"authorization": f"Bearer {api_key}"}


def _no_address(url: str, reason: str, given: str) -> BadRequest:
    return BadRequest(f"{url!r} is no address: {reason}; give one such as http://127.0.0.1:8700 ({given})")
