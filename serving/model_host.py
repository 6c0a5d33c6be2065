"""`python -m serving.model_host FD FD ...`: the process that `ModelProcess` starts.

It is asked over the first socket; each other one is for a process that prepares. One thread receives, one
loads and runs, one answers. It ends when who started it is gone.
"""

import gc
import os
import pickle
import pkgutil
import signal
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from multiprocessing.connection import Connection
from typing import Any

from retouche import logs
from retouche.errors import RetoucheError
from serving import preparing
from serving.preparing import Steps, crossing


class _Host:
    def __init__(
        self, connection: "Connection[Any, Any]", preparers: "Sequence[Connection[Any, Any]]"
    ) -> None:
        self._connection = connection
        self._preparers = preparers
        self._running = ThreadPoolExecutor(1, thread_name_prefix="run")
        self._answering = ThreadPoolExecutor(1, thread_name_prefix="answer")

    def receive(self) -> None:
        """Load, then run what is asked in the order of coming, until nobody can ask any more."""
        self._running.submit(self._load, *self._connection.recv())
        while (asked := self._next()) is not None:
            number, name, batch = asked
            prepared = [pickle.loads(each) for each in batch]  # noqa: S301 (our own forks')
            self._running.submit(self._run, number, name, prepared)

    def _load(self, loader: str, arguments: tuple[Any, ...]) -> None:
        try:
            self._steps: Steps = pkgutil.resolve_name(loader)(*arguments)
            gc.collect()
            gc.freeze()  # models never go: no full collection walks their objects, or copies what forks share
            preparing.fork(self._steps, self._preparers, others=[self._connection])
        except BaseException as error:  # noqa: BLE001 (it is raised again in the other process)
            self._connection.send(([], crossing(error)))
        else:
            self._connection.send((list(self._steps), None))

    def _next(self) -> tuple[int, str, list[bytes]] | None:
        try:
            asked: tuple[int, str, list[bytes]] | None = self._connection.recv()
            return asked
        except (EOFError, ConnectionError):
            return None

    def _run(self, number: int, name: str, prepared: list[Any]) -> None:
        answer: tuple[int, list[Any] | None, RetoucheError | None]
        try:
            answer = (number, self._steps[name].run(prepared), None)
        except BaseException as error:  # noqa: BLE001 (it is raised again in the other process)
            answer = (number, None, crossing(error))
        self._answering.submit(self._connection.send, answer)  # not by this thread: it has the next to run


def main() -> None:
    for meant_for_the_service in (signal.SIGINT, signal.SIGTERM):  # which ends this when its work is done
        signal.signal(meant_for_the_service, signal.SIG_IGN)
    logs.configure()
    asked, *preparers = (Connection(int(number)) for number in sys.argv[1:])
    _Host(asked, preparers).receive()
    os._exit(0)  # in the middle of a batch, if need be: nobody waits for it


if __name__ == "__main__":
    main()
