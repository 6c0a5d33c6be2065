"""The object store on a real S3 server: what holds in a folder holds there, and what goes wrong is named."""

import asyncio
import os
from collections.abc import Coroutine, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import httpx2
import pytest

from retouche.errors import BadRequest, ImageNotFound, NotFound, StoreRefused, StoreUnavailable
from retouche.store import ObjectStore, digest
from tests.gateway.server import NOTHING_LISTENS
from tests.live import live
from tests.s3 import Fault, Relay, relay_app, s3_server, store_url

T = TypeVar("T")


def wait(call: Coroutine[Any, Any, T]) -> T:
    return asyncio.run(call)


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    with s3_server() as address:
        yield address


@pytest.fixture
def relay() -> Relay:
    """Nothing goes wrong yet."""
    return Relay()


@pytest.fixture
def store(server: str, relay: Relay) -> Iterator[ObjectStore]:
    """Behind the relay; an answer is waited for half a second, and what fails is tried again for two."""
    with live(relay_app(server, relay)) as address:
        yield ObjectStore(store_url(address), timeout_seconds=0.5, retry_seconds=2)


def test_everything_that_a_folder_can(store: ObjectStore, tmp_path: Path) -> None:
    (tmp_path / "weights").write_bytes(content := os.urandom(12_000_000))

    async def everything() -> None:
        await store.check()
        await store.put("a/x", b"one")
        await store.put("a/x", b"two")
        await store.put_file("a/large", tmp_path / "weights")
        reference = await store.put_image(b"encoded")
        assert await store.get("a/x") == b"two"
        assert b"".join([part async for part in store.stream("a/large")]) == content
        assert await store.size("a/large") == len(content)
        assert await store.get_image(reference) == b"encoded"
        assert sorted([path async for path in store.paths("a")]) == ["a/large", "a/x"]
        assert "a" in await store.folders("")
        await store.delete("a/x")
        assert not await store.exists("a/x")
        with pytest.raises(ImageNotFound, match=digest(b"missing")):
            await store.get_image(digest(b"missing"))

    wait(everything())


def test_of_many_that_create_at_once_one_wins_and_all_get_its_bytes(store: ObjectStore) -> None:
    async def make(index: int) -> tuple[bytes, bool]:
        async def made() -> bytes:
            return str(index).encode()

        return await store.create_or_get("memo/race.json", made)

    async def race() -> list[tuple[bytes, bool]]:
        return await asyncio.gather(*map(make, range(16)))

    results = wait(race())
    assert len({content for content, _ in results}) == 1
    assert [found for _, found in results].count(False) == 1


@pytest.mark.parametrize("fault", [Fault(503, "SlowDown"), Fault(500, "InternalError"), Fault(429, "Busy")])
def test_what_passes_is_tried_again(store: ObjectStore, relay: Relay, fault: Fault) -> None:
    relay.faults = {method: [fault, fault] for method in ("PUT", "GET", "HEAD")}
    path = f"passes/{fault.code}"
    assert wait(store.create(path, b"first"))
    assert wait(store.get(path)) == b"first"
    assert wait(store.exists(path))
    assert relay.requests == 9


def test_a_conflict_that_nobody_won_is_tried_again(store: ObjectStore, relay: Relay) -> None:
    """S3 may answer 409 where nothing is there afterwards: taken for `exists`, a shard would be lost."""
    relay.faults = {"PUT": [Fault(409, "ConditionalRequestConflict")] * 2}
    assert wait(store.create("conflict/nobody", b"first"))
    relay.faults = {"PUT": [Fault(409, "ConditionalRequestConflict")]}
    assert not wait(store.create("conflict/nobody", b"second"))
    assert wait(store.get("conflict/nobody")) == b"first"
    relay.faults = {"PUT": [Fault(409, "ConditionalRequestConflict")] * 9}
    with pytest.raises(StoreUnavailable, match="does not decide who creates conflict/never"):
        wait(store.create("conflict/never", b"first"))


def test_an_answer_that_is_lost_neither_loses_nor_replaces_anything(store: ObjectStore, relay: Relay) -> None:
    relay.faults = {"PUT": [Fault(hang_seconds=2)]}
    assert not wait(store.create("lost/one", b"first")), "it is there: this very call wrote it"
    assert wait(store.get("lost/one")) == b"first"
    relay.faults = {"PUT": [Fault(hang_seconds=2)]}
    assert not wait(store.create("lost/one", b"second"))
    assert wait(store.get("lost/one")) == b"first"


def test_a_store_that_stays_away_says_so(store: ObjectStore, relay: Relay) -> None:
    relay.faults = {"PUT": [Fault(503, "SlowDown")] * 99, "GET": [Fault(hang_seconds=1)] * 99}
    with pytest.raises(StoreUnavailable, match=r"failed at away/x: .*503 Service Unavailable.*SlowDown"):
        wait(store.create("away/x", b""))
    with pytest.raises(StoreUnavailable, match=r"failed at away/x: .*GET.*retry_timeout: 2s"):
        wait(store.get("away/x"))
    gone = ObjectStore(store_url(NOTHING_LISTENS), retry_seconds=0.2)
    with pytest.raises(StoreUnavailable, match="error sending request"):
        wait(gone.get("away/x"))
    wait(gone.check())  # it may come back


def test_a_bucket_that_is_not_there_is_no_empty_one(server: str) -> None:
    store = ObjectStore(store_url(server, "typo"))

    async def listed() -> list[str]:
        return [path async for path in store.paths("jobs")]

    for call in (store.get("x"), store.put("x", b""), store.create("x", b""), listed(), store.check()):
        with pytest.raises(StoreRefused, match=r"no such bucket .*NoSuchBucket.*make it, or correct"):
            wait(call)


@contextmanager
def keys_checked(server: str) -> Iterator[None]:
    """The server knows no key at all."""
    httpx2.post(f"{server}/moto-api/reset-auth", content=b"0", trust_env=False).raise_for_status()
    yield
    httpx2.post(f"{server}/moto-api/reset-auth", content=b"inf", trust_env=False).raise_for_status()


def test_credentials_that_may_not_are_named() -> None:
    with s3_server() as server, keys_checked(server):
        store = ObjectStore(store_url(server))
        for call in (store.get("x"), store.put("x", b""), store.create("x", b""), store.check()):
            with pytest.raises(StoreRefused, match=r"InvalidAccessKeyId .* check its credentials"):
                wait(call)


def test_credentials_stand_in_the_address_and_nowhere_else(server: str) -> None:
    assert ObjectStore(store_url(server)).url == "s3://pictures/prefix"
    with pytest.raises(BadRequest, match="acess_key_id"):
        ObjectStore("s3://pairs?acess_key_id=one")
    with pytest.raises(NotFound):
        wait(ObjectStore(store_url(server)).get("nothing"))
