"""A process that serves an application until it is told to stop."""

import asyncio
import signal
import socket
import sys
from types import FrameType

import uvicorn
from fastapi import FastAPI

from retouche import logs, tracing
from retouche.errors import Unavailable

_UNREADY_SECONDS = 1.0  # before nothing is accepted any more: who balances load looks about that often
_SWITCH_SECONDS = 0.0005  # a model's thread waits that long for the interpreter; Python's own is ten times it


class _Server(uvicorn.Server):
    """Told to stop, it is unready first; a moment later it closes and waits for what is under way."""

    def __init__(self, app: FastAPI, config: uvicorn.Config, unready_seconds: float) -> None:
        super().__init__(config)
        self._app = app
        self._unready_seconds = unready_seconds

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        self._loop = asyncio.get_running_loop()
        await super().startup(sockets)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        state = self._app.state
        told_before, state.stopping = state.stopping, True  # streams end, which otherwise never would
        state.readiness = Unavailable("this process is stopping; retry elsewhere", retry_after_seconds=1)
        if sig != signal.SIGTERM or told_before:
            super().handle_exit(sig, frame)
            return
        close = super().handle_exit
        self._loop.call_soon_threadsafe(self._loop.call_later, self._unready_seconds, close, sig, frame)


def serve(app: FastAPI, host: str, port: int, unready_seconds: float = _UNREADY_SECONDS) -> None:
    """Serve until SIGTERM or Ctrl-C.

    From SIGTERM on new work is refused and `/readyz` fails; after `unready_seconds` nothing is accepted any
    more. What was accepted is answered.
    """
    sys.setswitchinterval(_SWITCH_SECONDS)
    logs.configure()
    tracing.configure(app.title)
    config = uvicorn.Config(app, host=host, port=port, log_level="warning", log_config=None)
    _Server(app, config, unready_seconds).run()
