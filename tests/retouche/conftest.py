"""A gateway as a real server for the clients and the command line: no service and no worker behind it."""

from collections.abc import Iterator

import pytest

from gateway.app import create_app
from gateway.settings import Settings
from retouche.store import ObjectStore
from tests.gateway.server import NOTHING_LISTENS, serve


@pytest.fixture
def gateway_url(store: ObjectStore, redis_url: str) -> Iterator[str]:
    """The address of a gateway that is ready; it keeps everything in `store`."""
    settings = Settings(
        store=store.url,
        redis_url=redis_url,
        generation_url=NOTHING_LISTENS,
        critique_url=NOTHING_LISTENS,
        instruction_url=NOTHING_LISTENS,
        editing_url=NOTHING_LISTENS,
        reward_url=NOTHING_LISTENS,
        recover_seconds=3600,
        upkeep_seconds=3600,
    )
    with serve(create_app(settings)) as client:
        yield str(client.base_url)
