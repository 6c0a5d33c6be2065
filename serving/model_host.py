"""`python -m serving.model_host FD`: the process that `ModelProcess` starts and asks over a socket.

One thread receives, one prepares, one loads and runs. It ends when who started it is gone.
"""

import gc
import logging
import os
import pkgutil
import signal
import sys
import threading
from collections.abc import Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from multiprocessing.connection import Connection
from typing import Any

from retouche import logs
from retouche.errors import ModelFailure, RetoucheError
from serving.steps import Step

Steps = Mapping[str, Step[Any, Any]]

_log = logging.getLogger("retouche.serving")


class _Host:
    def __init__(self, connection: "Connection[Any, Any]") -> None:
        self._connection = connection
        self._sending = threading.Lock()
        self._preparing = ThreadPoolExecutor(1, thread_name_prefix="prepare")
        self._running = ThreadPoolExecutor(1, thread_name_prefix="run")
        self._steps: Steps = {}

    def receive(self) -> None:
        """Load, then do what is asked in the order of coming, until nobody can ask any more."""
        loader, arguments = self._connection.recv()
        self._running.submit(_load, loader, arguments).add_done_callback(self._ready)
        while (asked := self._next()) is not None:
            number, name, batch = asked
            step = self._steps[name]
            prepared = self._preparing.submit(step.prepare, batch)
            prepared.add_done_callback(partial(self._run, number, step))

    def _next(self) -> tuple[int, str, Any] | None:
        try:
            asked: tuple[int, str, Any] | None = self._connection.recv()
            return asked
        except (EOFError, ConnectionError):
            return None

    def _ready(self, loaded: "Future[Steps]") -> None:
        if loaded.exception() is None:
            self._steps = loaded.result()
        self._send(list(self._steps), _error(loaded))

    def _run(self, number: int, step: Step[Any, Any], prepared: "Future[Any]") -> None:
        if prepared.exception() is not None:
            self._answer(number, prepared)
            return
        answers = self._running.submit(step.run, prepared.result())
        answers.add_done_callback(partial(self._answer, number))

    def _answer(self, number: int, answers: "Future[Any]") -> None:
        error = _error(answers)
        self._send(number, answers.result() if error is None else None, error)

    def _send(self, *message: Any) -> None:
        with self._sending:
            self._connection.send(message)


def _load(loader: str, arguments: tuple[Any, ...]) -> Steps:
    steps: Steps = pkgutil.resolve_name(loader)(*arguments)
    gc.collect()
    gc.freeze()  # models never go: no full collection need walk their objects
    return steps


def _error(done: "Future[Any]") -> RetoucheError | None:
    """What it raised, as an error that may cross to another process."""
    error = done.exception()
    if error is None or isinstance(error, RetoucheError):
        return error
    _log.error("the model failed", exc_info=error)
    return ModelFailure(f"the model failed ({type(error).__name__}: {error}); the log has more")


def main() -> None:
    for meant_for_the_service in (signal.SIGINT, signal.SIGTERM):  # which ends this when its work is done
        signal.signal(meant_for_the_service, signal.SIG_IGN)
    logs.configure()
    _Host(Connection(int(sys.argv[1]))).receive()
    os._exit(0)  # in the middle of a batch, if need be: nobody waits for it


if __name__ == "__main__":
    main()
