"""A request that may kill this process runs with nothing else under way, so that it dies of nobody else's.

Callers cannot see to that: each knows its own calls alone. The process that all of them call can.
"""

import time

from starlette.types import ASGIApp, Receive, Scope, Send

from retouche.contract.services import ALONE_HEADER
from retouche.errors import Overloaded
from serving import problems

_RESERVED_SECONDS = 2.0  # longer than a refused suspect waits before it comes again
_NAME = ALONE_HEADER.encode()


class Isolation:
    """Middleware: a POST with ALONE_HEADER is let in where nothing is under way, and keeps all others out.

    Where something is, it is refused, and those that come after it are as well: when it comes again what was
    under way has ended. It never waits inside, where it would die with the others.
    """

    def __init__(self, app: ASGIApp) -> None:
        self.app = app
        self._under_way = 0
        self._alone = False
        self._reserved_until = 0.0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["method"] != "POST":
            await self.app(scope, receive, send)
            return
        alone = any(name == _NAME for name, _ in scope["headers"])
        if (refusal := self._refusal(alone)) is not None:
            await problems.answer(refusal)(scope, receive, send)
            return
        self._under_way += 1
        self._alone = alone
        try:
            await self.app(scope, receive, send)
        finally:
            self._under_way -= 1
            self._alone = False

    def _refusal(self, alone: bool) -> Overloaded | None:
        if alone and self._under_way:
            self._reserved_until = time.monotonic() + _RESERVED_SECONDS
            return Overloaded("others are at work here; their end is waited for", retry_after_seconds=0.5)
        if alone:
            self._reserved_until = 0.0
        elif self._alone or time.monotonic() < self._reserved_until:
            return Overloaded(
                "a request that may have killed this service is tried alone; retry in a moment",
                retry_after_seconds=1,
            )
        return None
