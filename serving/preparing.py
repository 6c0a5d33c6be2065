"""Processes that prepare batches for a model, forked from the model's when it is loaded.

What a model reads is made in Python, and so is the dispatch of its kernels: in one process, a small model
waited a fifteenth of its time for the other. As with the workers of torch's DataLoader, what a fork does not
survive must not be used by `prepare`: an accelerator, or torch in more than one thread.
"""

import logging
import multiprocessing
import os
import pickle
import queue
import sys
from collections.abc import Mapping, Sequence
from multiprocessing.connection import Connection
from typing import Any

from retouche.errors import ModelFailure, RetoucheError
from serving.steps import Step

PROCESSES = max(1, min(4, (os.cpu_count() or 1) // 2))  # large pictures take longer to read than to score

_log = logging.getLogger("retouche.serving")


class Preparers:
    """The `prepare` of steps, PROCESSES at a time, to be called from any thread.

    If one of them dies, this process ends with it: whoever supervises starts all again.
    """

    def __init__(self, steps: Mapping[str, Step[Any, Any]]) -> None:
        self._idle: queue.SimpleQueue[Connection[Any, Any]] = queue.SimpleQueue()
        for _ in range(PROCESSES):
            self._idle.put(_forked(steps))

    def __call__(self, name: str, batch: Sequence[Any]) -> Any:
        """What `prepare` of that name makes of a batch; raises what it raised."""
        connection = self._idle.get()
        try:
            connection.send((name, batch))
            prepared, error = pickle.loads(connection.recv_bytes())  # noqa: S301 (our own fork's)
        except (EOFError, ConnectionError):
            _log.critical("a process that prepares for the model has ended, and so does this")
            os._exit(1)
        self._idle.put(connection)
        if error is not None:
            raise error
        return prepared


def crossing(error: BaseException) -> RetoucheError:
    """An error that may cross to another process."""
    if isinstance(error, RetoucheError):
        return error
    _log.error("the model failed", exc_info=error)
    return ModelFailure(f"the model failed ({type(error).__name__}: {error}); the log has more")


def _forked(steps: Mapping[str, Step[Any, Any]]) -> "Connection[Any, Any]":
    ours, theirs = multiprocessing.Pipe()
    if os.fork() == 0:
        ours.close()
        try:
            _prepare(steps, theirs)
        finally:
            os._exit(0)
    theirs.close()
    return ours


def _prepare(steps: Mapping[str, Step[Any, Any]], connection: "Connection[Any, Any]") -> None:
    if torch := sys.modules.get("torch"):
        torch.set_num_threads(1)  # its others are not in a fork, and would be waited for
    while True:
        try:
            name, batch = connection.recv()
        except (EOFError, ConnectionError):
            return  # who asked is gone
        connection.send_bytes(_prepared(steps[name], batch))


def _prepared(step: Step[Any, Any], batch: Sequence[Any]) -> bytes:
    # Plain bytes: torch has taught connections to send tensors by shared memory, and a container has little.
    try:
        return pickle.dumps((step.prepare(batch), None), pickle.HIGHEST_PROTOCOL)
    except Exception as error:  # noqa: BLE001 (it is raised again in the other process)
        return pickle.dumps((None, crossing(error)))
