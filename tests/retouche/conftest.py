"""A gateway as a real server for the clients and the command line, alone or with stub services behind it."""

from collections.abc import Iterator

import pytest
from fastapi import FastAPI

from bench import stub_services
from gateway.app import create_app
from retouche.contract.stages import STAGES
from retouche.store import ObjectStore
from tests.gateway.conftest import settings_for
from tests.gateway.server import serve
from tests.live import live


@pytest.fixture
def gateway_url(store: ObjectStore, redis_url: str) -> Iterator[str]:
    """The address of a gateway that is ready; it keeps everything in `store`."""
    with serve(create_app(settings_for(store.url, redis_url))) as client:
        yield str(client.base_url)


@pytest.fixture
def services(store: ObjectStore) -> FastAPI:
    """All five, as stubs."""
    return stub_services.create_app(store)


@pytest.fixture
def served_url(services: FastAPI, store: ObjectStore, redis_url: str) -> Iterator[str]:
    """The address of a gateway with `services` behind it."""
    with live(services) as address:
        addresses = {f"{stage}_url": address for stage in STAGES}
        settings = settings_for(store.url, redis_url).model_copy(update=addresses)
        with serve(create_app(settings)) as client:
            yield str(client.base_url)
