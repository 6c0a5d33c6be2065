"""A gateway with a finished job whose pairs have scores, findings and images."""

from collections.abc import Iterator

import pytest

from gateway.app import create_app
from retouche.client import Retouche
from retouche.store import ObjectStore
from tests.gateway.conftest import settings_for
from tests.gateway.server import NOTHING_LISTENS
from tests.live import live
from tests.trainer import worlds


@pytest.fixture
def url(store: ObjectStore, redis_url: str) -> Iterator[str]:
    """A gateway on the test's store; no worker and no service is up."""
    with live(create_app(settings_for(store.url, redis_url))) as url:
        yield url


@pytest.fixture
def client(url: str) -> Iterator[Retouche]:
    with Retouche(url) as client:
        yield client


@pytest.fixture
def job_id(store: ObjectStore) -> str:
    """A finished job of two shards with 40 pairs each."""
    return worlds.finished_job(store, pairs=40)


@pytest.fixture
def unused_url() -> str:
    """An address where nothing answers."""
    return NOTHING_LISTENS
