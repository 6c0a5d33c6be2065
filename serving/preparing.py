"""Processes that prepare items for a model, forked from the model's when it is loaded.

What a model reads is made in Python, and so is the dispatch of its kernels: in one process, one waited for
the other. As with the workers of torch's DataLoader, what a fork does not survive must not be used by
`prepare`: an accelerator, or torch in more than one thread.
"""

import asyncio
import logging
import os
import pickle
import sys
from collections import deque
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from multiprocessing.connection import Connection
from typing import Any

from retouche.errors import ModelFailure, RetoucheError
from serving.steps import Step

PROCESSES = max(1, min(4, (os.cpu_count() or 1) // 2))  # large pictures take longer to read than to score
_MOST_AT_ONCE = 16  # items, so that a crowd is shared among the processes

Steps = Mapping[str, Step[Any, Any, Any]]
Reply = bytes | RetoucheError  # an item as the model reads it, pickled, or why there is none

_log = logging.getLogger("retouche.serving")


@dataclass(eq=False)
class _Waiting:
    item: Any
    prepared: "asyncio.Future[bytes]" = field(
        default_factory=lambda: asyncio.get_running_loop().create_future()
    )


class Preparers:
    """Asks the processes: each has one group of items at a time, those that had come when it was free.

    If one of them dies, this process ends with it: whoever supervises starts all again.
    """

    def __init__(self, connections: "Sequence[Connection[Any, Any]]") -> None:
        """`connections` to processes that `fork` started."""
        self._connections = connections
        self._idle = list(connections)
        self._waiting: dict[str, deque[_Waiting]] = {}
        self._threads = ThreadPoolExecutor(len(connections), thread_name_prefix="prepare")

    async def __call__(self, name: str, item: Any) -> bytes:
        """What `prepare` of that name makes of one item, pickled; raises what it raised."""
        waiting = _Waiting(item)
        self._waiting.setdefault(name, deque()).append(waiting)
        asyncio.get_running_loop().call_soon(self._begin)  # when others that come just now have come
        return await waiting.prepared

    def close(self) -> None:
        """End the processes; nothing may be under way."""
        self._threads.shutdown()
        for connection in self._connections:
            connection.close()

    def _begin(self) -> None:
        while self._idle and self._waiting:
            name, group = self._next()
            if not group:
                continue
            asked = (name, [waiting.item for waiting in group])
            connection = self._idle.pop()
            call = asyncio.get_running_loop().run_in_executor(self._threads, _ask, connection, asked)
            call.add_done_callback(partial(self._end, connection, group))

    def _next(self) -> tuple[str, list[_Waiting]]:
        """Those that have waited longest for the step whose turn it is, but nobody whose caller has gone."""
        name = next(iter(self._waiting))
        queue = self._waiting.pop(name)
        group: list[_Waiting] = []
        while queue and len(group) < _MOST_AT_ONCE:
            if not (first := queue.popleft()).prepared.done():
                group.append(first)
        if queue:
            self._waiting[name] = queue  # behind the others
        return name, group

    def _end(
        self,
        connection: "Connection[Any, Any]",
        group: Sequence[_Waiting],
        call: "asyncio.Future[list[Reply]]",
    ) -> None:
        self._idle.append(connection)
        for waiting, reply in zip(group, call.result(), strict=True):
            if waiting.prepared.done():
                continue
            if isinstance(reply, bytes):
                waiting.prepared.set_result(reply)
            else:
                waiting.prepared.set_exception(reply)
        self._begin()


def _ask(connection: "Connection[Any, Any]", asked: tuple[str, Sequence[Any]]) -> list[Reply]:
    try:
        connection.send(asked)
        replies: list[Reply] = connection.recv()
        return replies
    except (EOFError, ConnectionError):
        _log.critical("a process that prepares for the model has ended, and so does this")
        os._exit(1)
    except Exception as error:  # noqa: BLE001 (what cannot be sent; the process is free for the next)
        return [crossing(error)] * len(asked[1])


def fork(
    steps: Steps, connections: "Sequence[Connection[Any, Any]]", others: "Sequence[Connection[Any, Any]]"
) -> None:
    """A process for each of `connections`, which it alone keeps; none has a part in `others`.

    It ends when the other side is closed.
    """
    for mine in connections:
        if os.fork() == 0:
            try:
                for each in {*connections, *others} - {mine}:
                    each.close()
                _prepare(steps, mine)
            finally:
                os._exit(0)
    for each in connections:
        each.close()


def crossing(error: BaseException) -> RetoucheError:
    """An error that may cross to another process."""
    if isinstance(error, RetoucheError):
        return error
    _log.error("the model failed", exc_info=error)
    return ModelFailure(f"the model failed ({type(error).__name__}: {error}); the log has more")


def _prepare(steps: Steps, connection: "Connection[Any, Any]") -> None:
    if torch := sys.modules.get("torch"):
        torch.set_num_threads(1)  # its others are not in a fork, and would be waited for
    while True:
        try:
            name, items = connection.recv()
        except (EOFError, ConnectionError):
            return  # who asked is gone
        connection.send(_replies(steps[name], items))


def _replies(step: Step[Any, Any, Any], items: Sequence[Any]) -> list[Reply]:
    """Items prepared together; where that fails, each by itself."""
    try:
        prepared = step.prepare(items)
        if len(prepared) != len(items):
            raise ModelFailure(f"{len(prepared)} of {len(items)} requests were prepared")
        # Plain bytes: connections would send tensors by shared memory, of which a container has little.
        return [pickle.dumps(each, pickle.HIGHEST_PROTOCOL) for each in prepared]
    except Exception as error:  # noqa: BLE001 (it is raised again in the other process)
        if len(items) == 1:
            return [crossing(error)]
        return [reply for item in items for reply in _replies(step, [item])]
