"""An application served on a free port, as tests call it."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager

import httpx2
import uvicorn
from fastapi import FastAPI

from tests.until import until

NOTHING_LISTENS = "http://127.0.0.1:1"


@contextmanager
def serve(app: FastAPI) -> Iterator[httpx2.Client]:
    """A client of the application, once it is ready."""
    with _running(app) as url, httpx2.Client(base_url=url, trust_env=False, timeout=20) as client:
        until(lambda: _ready(client))
        yield client


def _ready(client: httpx2.Client) -> bool:
    answer = client.get("/readyz")
    assert "could not be loaded" not in answer.text, answer.text
    return answer.is_success


@contextmanager
def _running(app: FastAPI) -> Iterator[str]:
    server = uvicorn.Server(uvicorn.Config(app, port=0, log_level="warning", timeout_graceful_shutdown=1))
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        while not server.started and thread.is_alive():
            threading.Event().wait(0.01)
        yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join(timeout=10)
