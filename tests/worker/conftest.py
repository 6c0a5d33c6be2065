"""The stub services under a real uvicorn."""

from collections.abc import Iterator

import pytest

from bench.stub_services import create_app
from retouche.store import ObjectStore
from tests.gateway.server import NOTHING_LISTENS
from tests.live import live


@pytest.fixture
def services(store: ObjectStore) -> Iterator[str]:
    """The address of all five services, on `store`."""
    with live(create_app(store)) as url:
        yield url


@pytest.fixture
def unused_url() -> str:
    """An address where nothing answers."""
    return NOTHING_LISTENS
