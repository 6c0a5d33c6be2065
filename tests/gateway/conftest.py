"""A gateway as a real server, with a Redis, a store and no worker: tests write the shards themselves."""

from collections.abc import Iterator
from pathlib import Path

import httpx2
import pytest
from fastapi import FastAPI
from pydantic import SecretStr

from gateway.app import create_app
from gateway.decisions import DecisionReader
from gateway.job_state import JobReader
from gateway.key_store import KeyStore
from gateway.pair_index import PairIndexes
from gateway.run_state import RunReader
from gateway.settings import Settings
from retouche.store import ObjectStore
from tests.gateway.server import NOTHING_LISTENS, serve
from tests.gateway.tenants import ADMIN_KEY


def settings_for(store: str, redis_url: str) -> Settings:
    """A gateway's settings; no service is up."""
    return Settings(
        store=store,
        redis_url=redis_url,
        generation_url=NOTHING_LISTENS,
        critique_url=NOTHING_LISTENS,
        instruction_url=NOTHING_LISTENS,
        editing_url=NOTHING_LISTENS,
        reward_url=NOTHING_LISTENS,
        recover_seconds=3600,
        upkeep_seconds=3600,
    )


@pytest.fixture
def settings(store: ObjectStore, redis_url: str) -> Settings:
    return settings_for(store.url, redis_url)


@pytest.fixture(scope="session")
def served(
    redis_server: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[FastAPI, httpx2.Client]]:
    """One gateway for all tests; take `gateway`, which has a store and a Redis that are empty."""
    app = create_app(settings_for(str(tmp_path_factory.mktemp("gateway")), redis_server))
    with serve(app) as client:
        yield app, client


@pytest.fixture
def app(served: tuple[FastAPI, httpx2.Client], store: ObjectStore, redis_url: str) -> FastAPI:
    app, _ = served
    assert redis_url == app.state.settings.redis_url
    app.state.store, app.state.reader = store, JobReader(store, app.state.redis)
    app.state.runs, app.state.keys = RunReader(store), KeyStore(store)
    app.state.decisions, app.state.indexes = DecisionReader(store), PairIndexes(store)
    return app


@pytest.fixture
def gateway(served: tuple[FastAPI, httpx2.Client], app: FastAPI) -> httpx2.Client:
    """A client of a running gateway."""
    assert served[0] is app
    return served[1]


@pytest.fixture
def guarded(settings: Settings) -> Iterator[httpx2.Client]:
    """A client of a gateway that wants keys; it has none itself."""
    wanting = settings.model_copy(update={"require_keys": True, "admin_key": SecretStr(ADMIN_KEY)})
    with serve(create_app(wanting)) as client:
        yield client


@pytest.fixture
def folder(store: ObjectStore) -> Path:
    """Where the store keeps its objects."""
    return Path(store.url)
