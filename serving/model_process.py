"""A model in a process of its own, so that its Python and the service's do not wait for each other.

What goes between the two is pickled: both are ours, and nothing that came from outside is unpickled.
"""

import itertools
import logging
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import Future
from functools import partial
from multiprocessing.connection import Connection
from typing import Any

from retouche.errors import ModelFailure
from serving.preparing import PROCESSES, Preparers

_CLOSING_SECONDS = 10.0
_KEPT = str(256 * 2**20)  # bytes
# glibc gives a layer's memory back to the kernel and asks for it again: a fifth of a small model's time.
ALLOCATOR = {
    "MALLOC_ARENA_MAX": "1",
    "MALLOC_MMAP_THRESHOLD_": _KEPT,
    "MALLOC_TRIM_THRESHOLD_": _KEPT,
    "MALLOC_TOP_PAD_": str(64 * 2**20),
}

_log = logging.getLogger("retouche.serving")


class ModelProcess:
    """The steps of a model: items are prepared as they come, and batches of them run, all at the same time.

    If the process dies (out of memory, a fault in a kernel), this one ends with it: whoever supervises starts
    both again, and callers see that their request was under way.
    """

    def __init__(self, loader: str, *arguments: Any) -> None:
        """Wait until the model is loaded.

        Args:
            loader: "module:function", which returns steps by name.
            arguments: of the loader; they are pickled, as items and answers are.

        Raises:
            RetoucheError: what the loader raised; ModelFailure for anything unexpected.
        """
        pairs = [socket.socketpair() for _ in range(1 + PROCESSES)]
        self._process = _started([theirs for _, theirs in pairs])
        self._connection: Connection[Any, Any]
        self._connection, *preparers = [Connection(ours.detach()) for ours, _ in pairs]
        self._preparers = Preparers(preparers)
        self._sending = threading.Lock()
        self._numbers = itertools.count()
        self._calls: dict[int, Future[list[Any]]] = {}
        self._closing = False
        self.steps = self._loaded(loader, arguments)
        threading.Thread(target=self._receive, name="model-answers", daemon=True).start()

    def prepare(self, name: str) -> Callable[[Any], Awaitable[bytes]]:
        """The first part of the step of that name, for one item; raises what it raised."""
        return partial(self._preparers, name)

    def run(self, name: str) -> Callable[[Sequence[bytes]], list[Any]]:
        """The second part, of a batch prepared, from any thread: as many answers; raises what it raised."""
        return partial(self._call, name)

    def close(self) -> None:
        """End the process; nothing may be under way."""
        self._closing = True
        self._preparers.close()
        self._connection.send(None)
        try:
            self._process.wait(_CLOSING_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()

    def _loaded(self, loader: str, arguments: tuple[Any, ...]) -> list[str]:
        try:
            self._connection.send((loader, arguments))
            names, error = self._connection.recv()
        except (EOFError, ConnectionError):
            raise ModelFailure(
                f"the process that loads {loader} ended with code {self._process.wait()}; "
                "-9 is most often too little memory"
            ) from None
        if error is not None:
            self.close()
            raise error
        found: list[str] = names
        return found

    def _call(self, name: str, batch: Sequence[bytes]) -> list[Any]:
        answer: Future[list[Any]] = Future()
        with self._sending:
            number = next(self._numbers)
            self._calls[number] = answer
            self._connection.send((number, name, batch))
        return answer.result()

    def _receive(self) -> None:
        while True:
            try:
                number, answers, error = self._connection.recv()
            except (EOFError, ConnectionError):
                break
            call = self._calls.pop(number)
            if error is None:
                call.set_result(answers)
            else:
                call.set_exception(error)
        if not self._closing:
            _log.critical("the model's process ended with code %d, and so does this", self._process.wait())
            os._exit(1)


def _started(sockets: Sequence[socket.socket]) -> "subprocess.Popen[bytes]":
    """The process, which has these sockets for its own."""
    numbers = [each.fileno() for each in sockets]
    command = [sys.executable, "-m", "serving.model_host", *map(str, numbers)]
    process = subprocess.Popen(command, pass_fds=numbers, env=ALLOCATOR | os.environ)
    for each in sockets:
        each.close()
    return process
