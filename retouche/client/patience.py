"""Calls that a gateway refuses for coming too often, made again when it says."""

import asyncio
import random

import httpx2

_LONGEST_WAIT_SECONDS = 5  # who is told to come back later than that is not served by waiting here
_MOST_WAITS = 10


class Patient(httpx2.AsyncBaseTransport):
    """A transport that waits out 429s whose Retry-After is short, where the body can be sent again."""

    def __init__(self, inner: httpx2.AsyncBaseTransport) -> None:
        self._inner = inner

    async def aclose(self) -> None:
        await self._inner.aclose()

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        for _ in range(_MOST_WAITS):
            response = await self._inner.handle_async_request(request)
            asked = response.headers.get("retry-after", "")
            again = response.status_code == 429 and isinstance(request.stream, httpx2.ByteStream)
            if not (again and asked.isdigit() and int(asked) <= _LONGEST_WAIT_SECONDS):
                return response
            await response.aclose()
            await asyncio.sleep(int(asked) * random.uniform(0.75, 1.25))
        return await self._inner.handle_async_request(request)
