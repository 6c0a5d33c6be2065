"""A gateway as a real server for the clients and the command line: no service and no worker behind it."""

from collections.abc import Iterator

import pytest

from gateway.app import create_app
from retouche.store import ObjectStore
from tests.gateway.conftest import settings_for
from tests.gateway.server import serve


@pytest.fixture
def gateway_url(store: ObjectStore, redis_url: str) -> Iterator[str]:
    """The address of a gateway that is ready; it keeps everything in `store`."""
    with serve(create_app(settings_for(store.url, redis_url))) as client:
        yield str(client.base_url)
