"""Calls spread over the replicas of a service: one name, several addresses.

Compose, and a headless Service of Kubernetes, answer a name with the address of every replica. A connection
kept alive stays with the replica it was made to, so the address is chosen here, for every call: the one with
the fewest calls under way. A replica that refuses, or cannot be connected to, is left alone for a while, and
the call goes to another one at once. What breaks later is not sent again from here: a request that makes a
replica crash would take down all of them.
"""

import asyncio
import random
import socket
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

import httpx2

Resolve = Callable[[str, int], Awaitable[list[str]]]

_KNOWN_SECONDS = 5.0  # until a name is looked up again
_AWAY_SECONDS = 1.0
_LONGEST_REST_SECONDS = 5.0
_REFUSED = (429, 503)


@dataclass
class _Replica:
    under_way: int = 0
    rests_until: float = 0.0

    def rest(self, seconds: float) -> None:
        self.rests_until = time.monotonic() + min(seconds, _LONGEST_REST_SECONDS)


@dataclass
class _Name:
    """What a name was last found to stand for."""

    looked_up: float = float("-inf")
    replicas: dict[str, _Replica] = field(default_factory=dict)


async def addresses(host: str, port: int) -> list[str]:
    """Every address of a name, as the system resolves it; OSError if there are none."""
    found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(entry[4][0]) for entry in found))


class Replicas(httpx2.AsyncBaseTransport):
    """A transport for requests that may be sent twice, as a stage's may: its answers are memoised."""

    def __init__(self, inner: httpx2.AsyncBaseTransport, resolve: Resolve = addresses) -> None:
        self._inner = inner
        self._resolve = resolve
        self._names: dict[str, _Name] = {}

    async def aclose(self) -> None:
        await self._inner.aclose()

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        """The first answer that is no refusal, or the last refusal."""
        untried = await self._candidates(request.url)
        while True:
            address = min(untried, key=lambda one: (untried[one].under_way, random.random()))
            replica = untried.pop(address)
            try:
                response = await _send(self._inner, request, address, replica)
            except (httpx2.ConnectError, httpx2.ConnectTimeout):
                replica.rest(_AWAY_SECONDS)
                if not untried:
                    raise
                continue
            except httpx2.TransportError:
                replica.rest(_AWAY_SECONDS)
                raise
            if response.status_code not in _REFUSED:
                return response
            replica.rest(_seconds(response.headers.get("retry-after", "")))
            if not untried:
                return response
            await response.aclose()

    async def _candidates(self, url: httpx2.URL) -> dict[str, _Replica]:
        """The replicas to try: those that do not rest; where all do, the one that has rested longest."""
        replicas = await self._replicas(url.host, url.port or {"https": 443}.get(url.scheme, 80))
        now = time.monotonic()
        awake = {address: replica for address, replica in replicas.items() if replica.rests_until <= now}
        if awake:
            return awake
        address = min(replicas, key=lambda one: replicas[one].rests_until)
        return {address: replicas[address]}

    async def _replicas(self, host: str, port: int) -> dict[str, _Replica]:
        """Those of a name, looked up again by the first caller after _KNOWN_SECONDS."""
        name, now = self._names.setdefault(host, _Name()), time.monotonic()
        if not name.replicas or now - name.looked_up > _KNOWN_SECONDS:
            name.looked_up = now
            try:
                found = await self._resolve(host, port)
                name.replicas = {address: name.replicas.get(address) or _Replica() for address in found}
            except OSError as error:
                if not name.replicas:
                    raise httpx2.ConnectError(f"{host}: {error}") from error
        return name.replicas


async def _send(
    inner: httpx2.AsyncBaseTransport, request: httpx2.Request, address: str, replica: _Replica
) -> httpx2.Response:
    """The request as it is, Host and TLS name included, to one address."""
    addressed = httpx2.Request(
        request.method,
        request.url.copy_with(host=address),
        headers=request.headers,
        stream=request.stream,
        extensions={**request.extensions, "sni_hostname": request.url.host},
    )
    replica.under_way += 1
    try:
        return await inner.handle_async_request(addressed)
    finally:
        replica.under_way -= 1


def _seconds(retry_after: str) -> float:
    return float(retry_after) if retry_after.isdigit() else _AWAY_SECONDS
