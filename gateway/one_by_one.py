"""Jobs or runs, one after the other: what is wrong with one of them holds up no other."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterable

from retouche.errors import QueueUnavailable, RetoucheError, StoreUnavailable

_log = logging.getLogger("retouche.gateway")


async def one_by_one(identifiers: Iterable[str], enqueue: Callable[[str], Awaitable[bool]]) -> list[str]:
    """Those of which `enqueue` says that something was due; those it fails for are logged and left out.

    Raises:
        QueueUnavailable, StoreUnavailable: it would be the same with all others.
    """
    due = []
    for identifier in identifiers:
        (outcome,) = await asyncio.gather(enqueue(identifier), return_exceptions=True)
        if isinstance(outcome, QueueUnavailable | StoreUnavailable):
            raise outcome
        if isinstance(outcome, BaseException):
            known = isinstance(outcome, RetoucheError)
            _log.warning(
                "%s could not be recovered: %s", identifier, outcome, exc_info=None if known else outcome
            )
        elif outcome:
            due.append(identifier)
    return due
