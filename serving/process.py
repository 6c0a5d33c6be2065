"""A process that serves an application until it is told to stop."""

from types import FrameType

import uvicorn
from fastapi import FastAPI


class _Server(uvicorn.Server):
    """Tells the application before it waits for what is under way: a stream would otherwise never end."""

    def __init__(self, app: FastAPI, config: uvicorn.Config) -> None:
        super().__init__(config)
        self._app = app

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        self._app.state.stopping = True
        super().handle_exit(sig, frame)


def serve(app: FastAPI, host: str, port: int) -> None:
    """Serve until SIGTERM or Ctrl-C. From then on nothing is accepted, and what was is answered."""
    _Server(app, uvicorn.Config(app, host=host, port=port, log_level="warning")).run()
