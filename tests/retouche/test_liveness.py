"""`python -m worker.alive` is the health check of a process that listens at no port."""

import os
import subprocess
import sys
import time

import pytest
from redis import Redis

from retouche.liveness import worker_lives


def lives(module: str, redis_url: str) -> bool:
    """What the health check of a container would say."""
    environment = {**os.environ, "RETOUCHE_REDIS_URL": redis_url}
    return subprocess.run([sys.executable, "-m", module], env=environment, check=False).returncode == 0


def test_no_worker_has_told_of_itself(redis_url: str) -> None:
    assert not lives("worker.alive", redis_url)
    assert not lives("trainer.alive", redis_url)


@pytest.mark.parametrize("module", ["worker", "trainer"])
def test_a_worker_that_waits_for_work_lives(redis_url: str, module: str) -> None:
    environment = {**os.environ, "RETOUCHE_REDIS_URL": redis_url}
    worker = subprocess.Popen([sys.executable, "-m", module], env=environment)
    try:
        while not worker_lives(redis_url):
            assert worker.poll() is None
            time.sleep(0.1)
        assert lives(f"{module}.alive", redis_url)
        assert not worker_lives(redis_url, host="another-container")
        with Redis.from_url(redis_url) as connection:
            connection.flushall()
        while not worker_lives(redis_url):
            assert worker.poll() is None
            time.sleep(0.1)
    finally:
        worker.terminate()
        assert worker.wait(timeout=20) == 0


def test_a_worker_is_not_to_blame_for_a_redis_that_is_away() -> None:
    assert worker_lives("redis://127.0.0.1:1/0")
