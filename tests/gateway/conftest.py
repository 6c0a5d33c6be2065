"""A gateway as a real server, with a Redis, a store and no worker: tests write the shards themselves."""

import asyncio
import threading
from collections.abc import Awaitable, Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import TypeVar

import httpx2
import pytest
import uvicorn
from fastapi import FastAPI

from gateway.app import create_app
from gateway.settings import Settings
from retouche.store import ObjectStore

T = TypeVar("T")

NOTHING_LISTENS = "http://127.0.0.1:1"


class Server(uvicorn.Server):
    """An application served on a free port from a thread of its own."""

    def __init__(self, app: FastAPI) -> None:
        super().__init__(
            uvicorn.Config(app, port=0, log_level="warning", timeout_graceful_shutdown=1, lifespan="on")
        )

    @contextmanager
    def running(self) -> Iterator[str]:
        """The address, once it answers."""
        thread = threading.Thread(target=self.run)
        thread.start()
        try:
            while not self.started and thread.is_alive():
                threading.Event().wait(0.01)
            yield f"http://127.0.0.1:{self.servers[0].sockets[0].getsockname()[1]}"
        finally:
            self.should_exit = True
            thread.join(timeout=10)


Serve = Callable[..., AbstractContextManager[httpx2.Client]]


@pytest.fixture
def settings(store: ObjectStore, redis_url: str) -> Settings:
    """A gateway's settings; no service is up."""
    return Settings(
        store=store.url,
        redis_url=redis_url,
        generation_url=NOTHING_LISTENS,
        critique_url=NOTHING_LISTENS,
        instruction_url=NOTHING_LISTENS,
        editing_url=NOTHING_LISTENS,
        reward_url=NOTHING_LISTENS,
        recover_seconds=3600,
    )


@contextmanager
def serve(app: FastAPI) -> Iterator[httpx2.Client]:
    """A client of the application, served and ready."""
    with Server(app).running() as url, httpx2.Client(base_url=url, trust_env=False, timeout=20) as client:
        while client.get("/readyz").status_code == 503:
            threading.Event().wait(0.01)
        yield client


@pytest.fixture
def app(settings: Settings) -> FastAPI:
    return create_app(settings)


@pytest.fixture
def gateway(app: FastAPI) -> Iterator[httpx2.Client]:
    """A client of a running gateway."""
    with serve(app) as client:
        yield client


@pytest.fixture
def folder(store: ObjectStore) -> Path:
    """Where the store keeps its objects."""
    return Path(store.url)


def wait(awaitable: Awaitable[T]) -> T:
    """One call of the store from a test without an event loop."""

    async def waiting() -> T:
        return await awaitable

    return asyncio.run(waiting())
