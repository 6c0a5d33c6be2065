"""A gateway for runs."""

from collections.abc import Iterator

import pytest

from gateway.app import create_app
from retouche.client import Retouche
from retouche.store import ObjectStore
from tests.gateway.conftest import settings_for
from tests.live import live


@pytest.fixture
def client(store: ObjectStore, redis_url: str) -> Iterator[Retouche]:
    """A client of a gateway on the test's store and Redis."""
    with live(create_app(settings_for(store.url, redis_url))) as url, Retouche(url) as client:
        yield client
