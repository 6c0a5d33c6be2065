"""The object store: whole writes, put-if-absent, content addresses, and failures as the error tree."""

import asyncio
import os
import subprocess
from collections.abc import Coroutine, Iterator
from pathlib import Path
from typing import Any, TypeVar

import pytest

from retouche.errors import ImageNotFound, NotFound, RetoucheError, StoreFull, StoreUnavailable
from retouche.store import ObjectStore, digest, image_path, memo_path, prompt_set_path, shard_path

T = TypeVar("T")


def wait(call: Coroutine[Any, Any, T]) -> T:
    return asyncio.run(call)


def test_what_is_put_is_there_and_can_be_replaced_and_removed(store: ObjectStore) -> None:
    wait(store.put("jobs/a/spec.json", b"one"))
    wait(store.put("jobs/a/spec.json", b"two"))
    assert wait(store.get("jobs/a/spec.json")) == b"two"
    wait(store.delete("jobs/a/spec.json"))
    assert not wait(store.exists("jobs/a/spec.json"))
    wait(store.delete("jobs/a/spec.json"))


def test_create_never_replaces(store: ObjectStore) -> None:
    assert wait(store.create("memo/x.json", b"first"))
    assert not wait(store.create("memo/x.json", b"second"))
    assert wait(store.get("memo/x.json")) == b"first"


def test_of_many_that_create_at_once_one_wins_and_all_get_its_bytes(store: ObjectStore) -> None:
    async def make(index: int) -> tuple[bytes, bool]:
        async def made() -> bytes:
            return str(index).encode()

        return await store.create_or_get("memo/x.json", made)

    async def race() -> list[tuple[bytes, bool]]:
        return await asyncio.gather(*map(make, range(16)))

    results = wait(race())
    assert len({content for content, _ in results}) == 1
    assert [found for _, found in results].count(False) == 1


def test_an_image_is_under_its_digest(store: ObjectStore) -> None:
    reference = wait(store.put_image(b"encoded"))
    assert reference == wait(store.put_image(b"encoded")) == digest(b"encoded")
    assert wait(store.get_image(reference)) == b"encoded"


def test_what_is_not_there_is_said_by_name(store: ObjectStore) -> None:
    with pytest.raises(NotFound, match="jobs/none"):
        wait(store.get("jobs/none"))
    missing = digest(b"missing")
    with pytest.raises(ImageNotFound, match=missing):
        wait(store.get_image(missing))


def test_paths_and_folders_are_listed(store: ObjectStore) -> None:
    async def fill() -> tuple[list[str], list[str]]:
        for path in ("jobs/b/spec.json", "jobs/a/spec.json", "jobs/a/shards/000000.parquet"):
            await store.put(path, b"")
        return [path async for path in store.paths("jobs/a")], await store.folders("jobs")

    paths, folders = wait(fill())
    assert sorted(paths) == ["jobs/a/shards/000000.parquet", "jobs/a/spec.json"]
    assert folders == ["a", "b"]
    assert wait(store.folders("nothing")) == []


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        (image_path("sha256:abcd"), "images/sha256/ab/abcd.webp"),
        (prompt_set_path("sha256:abcd"), "prompts/abcd.ndjson"),
        (memo_path("editing", "abcd"), "memo/editing/ab/abcd.json"),
        (shard_path("job-1", "shards", 7), "jobs/job-1/shards/000007.parquet"),
        (shard_path("job-1", "failed", 7), "jobs/job-1/failed/000007.json"),
    ],
)
def test_where_things_are(path: str, expected: str) -> None:
    assert path == expected


def test_a_store_that_fails_says_where(tmp_path: Path) -> None:
    store = ObjectStore(str(tmp_path))
    (tmp_path / "jobs").write_text("a file where a folder should be")
    with pytest.raises(StoreUnavailable, match="jobs/a"):
        wait(store.put("jobs/a", b""))


@pytest.mark.parametrize("url", ["nonsense://bucket", "s3://"])
def test_an_address_that_is_none(url: str) -> None:
    with pytest.raises(RetoucheError):
        ObjectStore(url)


@pytest.fixture
def small_folder(tmp_path: Path) -> Iterator[Path]:
    """A file system of 64 kB."""
    mount = ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(tmp_path)]
    if os.geteuid() != 0 or subprocess.run(mount, capture_output=True).returncode != 0:
        pytest.skip("may not mount a small file system here")
    yield tmp_path
    subprocess.run(["umount", str(tmp_path)], check=True)


def test_a_full_store_says_so_and_nothing_half_written_is_visible(small_folder: Path) -> None:
    store = ObjectStore(str(small_folder))
    with pytest.raises(StoreFull, match="free some"):
        wait(store.put_image(os.urandom(1_000_000)))
    assert list(small_folder.rglob("*.webp")) == []
