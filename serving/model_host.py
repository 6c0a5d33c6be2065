"""`python -m serving.model_host FD`: the process that `ModelProcess` starts and asks over a socket.

One thread receives, one loads and runs, one answers; others wait for the processes that prepare. It ends when
who started it is gone.
"""

import gc
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
from retouche.errors import RetoucheError
from serving import preparing
from serving.preparing import Preparers, crossing
from serving.steps import Step

Steps = Mapping[str, Step[Any, Any]]
Loaded = tuple[Steps, Preparers]


class _Host:
    def __init__(self, connection: "Connection[Any, Any]") -> None:
        self._connection = connection
        self._sending = threading.Lock()
        self._preparing = ThreadPoolExecutor(preparing.PROCESSES, thread_name_prefix="prepare")
        self._running = ThreadPoolExecutor(1, thread_name_prefix="run")
        self._answering = ThreadPoolExecutor(1, thread_name_prefix="answer")

    def receive(self) -> None:
        """Load, then do what is asked in the order of coming, until nobody can ask any more."""
        loader, arguments = self._connection.recv()
        self._running.submit(_load, loader, arguments).add_done_callback(self._ready)
        while (asked := self._next()) is not None:
            number, name, batch = asked
            prepared = self._preparing.submit(self._prepare, name, batch)
            prepared.add_done_callback(partial(self._run, number, self._steps[name]))

    def _next(self) -> tuple[int, str, Any] | None:
        try:
            asked: tuple[int, str, Any] | None = self._connection.recv()
            return asked
        except (EOFError, ConnectionError):
            return None

    def _ready(self, loaded: "Future[Loaded]") -> None:
        error = _error(loaded)
        if error is None:
            self._steps, self._prepare = loaded.result()
        self._send(list(self._steps) if error is None else [], error)

    def _run(self, number: int, step: Step[Any, Any], prepared: "Future[Any]") -> None:
        if prepared.exception() is not None:
            self._answer(number, prepared)
            return
        answers = self._running.submit(step.run, prepared.result())
        # Not by the thread that runs, which has the next batch to do.
        answers.add_done_callback(lambda done: self._answering.submit(self._answer, number, done))

    def _answer(self, number: int, answers: "Future[Any]") -> None:
        error = _error(answers)
        self._send(number, answers.result() if error is None else None, error)

    def _send(self, *message: Any) -> None:
        with self._sending:
            self._connection.send(message)


def _load(loader: str, arguments: tuple[Any, ...]) -> Loaded:
    steps: Steps = pkgutil.resolve_name(loader)(*arguments)
    gc.collect()
    gc.freeze()  # models never go: no full collection need walk their objects, or copy what forks share
    return steps, Preparers(steps)


def _error(done: "Future[Any]") -> RetoucheError | None:
    """What it raised, as an error that may cross to another process."""
    error = done.exception()
    return None if error is None else crossing(error)


def main() -> None:
    for meant_for_the_service in (signal.SIGINT, signal.SIGTERM):  # which ends this when its work is done
        signal.signal(meant_for_the_service, signal.SIG_IGN)
    logs.configure()
    _Host(Connection(int(sys.argv[1]))).receive()
    os._exit(0)  # in the middle of a batch, if need be: nobody waits for it


if __name__ == "__main__":
    main()
