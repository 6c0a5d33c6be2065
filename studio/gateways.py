"""The gateway as each visitor's key opens it."""

from collections import OrderedDict
from collections.abc import AsyncIterator
from typing import TypeVar

from retouche.client import AsyncRetouche

SHOWN = 50  # jobs or runs in a list
_KEYS_KEPT = 64

T = TypeVar("T")


class Gateways:
    """A client for each key that is in use; the connections of those not seen for long are closed."""

    def __init__(self, url: str) -> None:
        self.url = url
        self._clients: OrderedDict[str, AsyncRetouche] = OrderedDict()

    async def of(self, key: str) -> AsyncRetouche:
        """The client of a visitor's key; an empty one is for a gateway that wants none."""
        key = key.strip()
        if key not in self._clients:
            self._clients[key] = AsyncRetouche(self.url, api_key=key or None, timeout_seconds=60)
        self._clients.move_to_end(key)
        if len(self._clients) > _KEYS_KEPT:
            await self._clients.popitem(last=False)[1].close()
        return self._clients[key]


async def newest(listed: AsyncIterator[T]) -> list[T]:
    """The first of a listing, as many as a list on the page shows."""
    found: list[T] = []
    async for one in listed:
        found.append(one)
        if len(found) == SHOWN:
            break
    return found
