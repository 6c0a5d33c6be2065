"""How many calls are under way to one service: as many as it takes well (AIMD, as in TCP).

It starts with a few. Until the first refusal every answer lets one more through, after it one more a round.
Every 429 or 503 halves it and makes all wait as long as the service asks, or a little longer each time. A
service that stays away longer than the patience fails the shard, not its items.
"""

import asyncio
import random
import time
from collections.abc import Awaitable, Callable
from typing import TypeVar

from retouche.errors import ImageNotFound, NotFound, RetoucheError, StoreFull, Unauthorized

T = TypeVar("T")

_FIRST_ALLOWED = 8  # few, so that the first items are soon through and the last stage does not idle long
_FIRST_WAIT_SECONDS = 0.25
_LONGEST_WAIT_SECONDS = 10.0


class ServiceAway(Exception):
    """A service could not be reached, or can take no work at all: the shard cannot go on."""


def _of_the_service(error: RetoucheError) -> bool:
    """Would every other request be answered the same? Then no item is to blame."""
    wrong_address = isinstance(error, NotFound) and not isinstance(error, ImageNotFound)
    return isinstance(error, StoreFull | Unauthorized) or wrong_address


class Limit:
    """Calls to one service: at most `most` at a time, fewer while it says that it has too much."""

    def __init__(self, service: str, most: int, patience_seconds: float) -> None:
        self._service = service
        self._most = most
        self._patience = patience_seconds
        self._allowed = float(min(most, _FIRST_ALLOWED))
        self._under_way = 0
        self._open_again = 0.0
        self._halved = 0.0
        self._answered = time.monotonic()
        self._freed = asyncio.Condition()

    @property
    def allowed(self) -> float:
        """How many calls may be under way now."""
        return self._allowed

    async def __call__(self, call: Callable[[], Awaitable[T]]) -> T:
        """Make the call when there is room; again after errors that are retryable.

        Raises:
            ServiceAway: there has been no answer from the service for longer than the patience, or it
                says something that every other request would hear too (its store is full, a wrong key).
            RetoucheError: what the service says of this very request.
        """
        wait = _FIRST_WAIT_SECONDS
        began = time.monotonic()
        while True:
            await self._enter()
            sent = began
            try:
                await self._pause()
                sent = time.monotonic()
                answer = await call()
            except RetoucheError as error:
                if not error.retryable:
                    self._answered = time.monotonic()
                    if _of_the_service(error):
                        raise ServiceAway(f"the {self._service} service: {error.detail}") from error
                    raise
                self._refused(error, sent, wait)
                if time.monotonic() - max(self._answered, began) > self._patience:
                    raise self._away(error) from error
            else:
                self._succeeded()
                return answer
            finally:
                await self._leave()
            wait = min(2 * wait, _LONGEST_WAIT_SECONDS)

    async def _enter(self) -> None:
        async with self._freed:
            await self._freed.wait_for(lambda: self._under_way < max(1, int(self._allowed)))
            self._under_way += 1

    async def _pause(self) -> None:
        while (pause := self._open_again - time.monotonic()) > 0:  # noqa: ASYNC110 - another call may move it
            await asyncio.sleep(pause)

    async def _leave(self) -> None:
        async with self._freed:
            self._under_way -= 1
            self._freed.notify(max(1, int(self._allowed) - self._under_way))

    def _succeeded(self) -> None:
        self._answered = time.monotonic()
        more = 1 / self._allowed if self._halved else 1.0
        self._allowed = min(self._most, self._allowed + more)

    def _refused(self, error: RetoucheError, sent: float, wait: float) -> None:
        pause = min(error.retry_after_seconds or wait, _LONGEST_WAIT_SECONDS)
        self._open_again = time.monotonic() + pause * random.uniform(1.0, 1.25)
        if sent > self._halved:  # calls that were under way together are refused together: that counts once
            self._allowed, self._halved = max(1.0, self._allowed / 2), time.monotonic()

    def _away(self, error: RetoucheError) -> ServiceAway:
        return ServiceAway(
            f"the {self._service} service has given no answer for {self._patience:.0f} s ({error.detail}); "
            "bring it up, then retry the job"
        )
