"""How many calls are under way to one service: as many as it takes well (AIMD, as in TCP).

It starts with a few. Until the first refusal every answer lets one more through, after it one more a round.
A 429 or 503 makes the refused call wait outside its place, as long as the service asks at least, else a
little longer each time, and takes a fifth of the places away; calls refused together count once.

A service that stays away longer than the patience fails the shard. A call that the service takes and never
answers is made a few times and then fails alone, since it may be the item; if many do so in a row, with no
answer between them, it is the service that hangs.

A service that dies takes every call under way with it, whoever made it, and one of them may have killed it. A
call that this has happened to twice is made alone: no other of this process is under way, and the service is
asked to take none of anybody else's. So those that are innocent get their answer, and only one that the
service dies of again and again with nothing else to do is given up.
"""

import asyncio
import logging
import random
import time
from collections.abc import Awaitable, Callable
from contextlib import nullcontext
from typing import TypeVar

from retouche.about import about
from retouche.errors import (
    ConnectionBroken,
    DeadlineExceeded,
    Forbidden,
    ImageNotFound,
    ModelFailure,
    NotFound,
    RetoucheError,
    ServiceUnreachable,
    StoreFull,
    StoreRefused,
    Unauthorized,
)

T = TypeVar("T")

_log = logging.getLogger("retouche.worker")

_FIRST_ALLOWED = 8  # few, so that the first items are soon through and the last stage does not idle long
_SHRINK = 0.8
_MOST_TIMEOUTS = 3  # of one call
_MOST_HUNG = 8  # calls that fail alone in a row: with one more it is the service
_IN_COMPANY = 2  # deaths of the service over a call made beside others, before it is made alone
_MOST_DEATHS = 6  # of the service over one call; somebody may have killed it just when an innocent was alone
_FIRST_WAIT_SECONDS = 0.25
_LONGEST_WAIT_SECONDS = 10.0  # where the service does not say how long


class ServiceAway(Exception):
    """A service could not be reached, or can take no work at all: the shard cannot go on."""


def _of_the_service(error: RetoucheError) -> bool:
    """Would every other request be answered the same? Then no item is to blame."""
    wrong_address = isinstance(error, NotFound) and not isinstance(error, ImageNotFound)
    return isinstance(error, Unauthorized | Forbidden | StoreRefused) or wrong_address


def _passes(error: RetoucheError) -> bool:
    """Is it worth while to ask again later? Somebody may free space in a full store."""
    return error.retryable or isinstance(error, StoreFull)


class Limit:
    """Calls to one service: at most `most` at a time, fewer while it says that it has too much."""

    def __init__(
        self,
        service: str,
        most: int,
        patience_seconds: float,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._service = service
        self._most = most
        self._patience = patience_seconds
        self._sleep = sleep
        self._allowed = float(min(most, _FIRST_ALLOWED))
        self._under_way = 0
        self._shrunk = 0.0
        self._answered = time.monotonic()
        self._hung = 0
        self._to_be_alone = 0  # calls that wait for all others to end
        self._alone = False
        self._freed = asyncio.Condition()

    @property
    def allowed(self) -> float:
        """How many calls may be under way now."""
        return self._allowed

    async def __call__(self, call: Callable[[], Awaitable[T]]) -> T:
        """Make the call when there is room; again after errors that may pass.

        Raises:
            ServiceAway: there has been no answer from the service for longer than the patience, or it
                says something that every other request would hear too (a wrong key, that it may not be
                called, a wrong address, a store that refuses its credentials), or more than _MOST_HUNG calls
                in a row have timed out for good.
            DeadlineExceeded: this very call has timed out _MOST_TIMEOUTS times.
            ModelFailure: the service has died over this very call _MOST_DEATHS times.
            RetoucheError: what the service says of this very request.
        """
        began, wait, timeouts, deaths = time.monotonic(), _FIRST_WAIT_SECONDS, 0, 0
        while True:
            try:
                return await self._try(call, alone=deaths >= _IN_COMPANY)
            except RetoucheError as error:
                if not _passes(error):
                    raise
                if isinstance(error, ConnectionBroken):
                    deaths += 1
                    if deaths == _MOST_DEATHS:
                        raise self._deadly(error) from error
                if isinstance(error, DeadlineExceeded):
                    timeouts += 1
                    if timeouts == _MOST_TIMEOUTS:
                        self._count_hung(error)
                        raise
                elif time.monotonic() - max(self._answered, began) > self._patience:
                    raise self._away(error) from error
                pause = error.retry_after_seconds or wait
            await self._sleep(pause * random.uniform(1.0, 1.25))  # never sooner than asked
            wait = min(2 * wait, _LONGEST_WAIT_SECONDS)

    async def _try(self, call: Callable[[], Awaitable[T]], *, alone: bool) -> T:
        """One attempt, in a place of its own."""
        await self._enter(alone)
        sent = time.monotonic()
        try:
            with about(alone=1) if alone else nullcontext():
                answer = await call()
        except RetoucheError as error:
            if _passes(error):
                self._refused(sent)
                raise
            self._answered, self._hung = time.monotonic(), 0
            if _of_the_service(error):
                raise ServiceAway(f"the {self._service} service: {error.detail}") from error
            raise
        else:
            self._succeeded()
            return answer
        finally:
            await self._leave()

    async def _enter(self, alone: bool) -> None:
        async with self._freed:
            self._to_be_alone += alone
            try:
                await self._freed.wait_for(lambda: self._has_room(alone))
            finally:
                self._to_be_alone -= alone
            self._alone = alone
            self._under_way += 1

    def _has_room(self, alone: bool) -> bool:
        if alone:
            return self._under_way == 0
        reserved = self._alone or self._to_be_alone > 0
        return not reserved and self._under_way < max(1, int(self._allowed))

    async def _leave(self) -> None:
        async with self._freed:
            self._under_way -= 1
            if self._alone or self._to_be_alone:
                self._alone = False
                self._freed.notify_all()
            else:
                self._freed.notify(max(1, int(self._allowed) - self._under_way))

    def _succeeded(self) -> None:
        self._answered, self._hung = time.monotonic(), 0
        more = 1 / self._allowed if self._shrunk else 1.0
        self._allowed = min(self._most, self._allowed + more)

    def _refused(self, sent: float) -> None:
        if sent > self._shrunk:  # calls that were under way together are refused together: that counts once
            self._allowed, self._shrunk = max(1.0, self._allowed * _SHRINK), time.monotonic()

    def _told(self, error: RetoucheError) -> str:
        """What is wrong, for whoever asked for the job; at which address is for whoever runs the service."""
        if not isinstance(error, ServiceUnreachable):
            return error.detail
        _log.error("%s: %s", self._service, error.detail)
        return error.problem().title

    def _count_hung(self, error: RetoucheError) -> None:
        self._hung += 1
        if self._hung > _MOST_HUNG:
            raise ServiceAway(
                f"the {self._service} service takes calls and answers none: {self._hung} in a row "
                f"({error.detail}); restart it, then retry the job"
            ) from error

    def _deadly(self, error: RetoucheError) -> ModelFailure:
        return ModelFailure(
            f"the {self._service} service died each of the {_MOST_DEATHS} times it was given this, the last "
            f"ones with nothing else to do ({self._told(error)}); its log may say why"
        )

    def _away(self, error: RetoucheError) -> ServiceAway:
        return ServiceAway(
            f"the {self._service} service has given no answer for {self._patience:.0f} s "
            f"({self._told(error)}); bring it up, then retry the job"
        )
