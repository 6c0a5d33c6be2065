"""The stub services under a real uvicorn."""

import socket
from collections.abc import Iterator

import pytest

from bench.stub_services import create_app
from retouche.store import ObjectStore
from tests.live import live


@pytest.fixture
def services(store: ObjectStore) -> Iterator[str]:
    """The address of all five services, on `store`."""
    with live(create_app(store)) as url:
        yield url


@pytest.fixture
def unused_url() -> str:
    """An address where nothing answers."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{listener.getsockname()[1]}"
