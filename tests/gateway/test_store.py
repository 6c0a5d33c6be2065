"""A gateway whose object store cannot work says so when it starts, and not to its first caller."""

import time

import httpx2

from gateway.app import create_app
from tests.gateway.conftest import settings_for
from tests.live import live
from tests.s3 import s3_server, store_url


def readiness(url: str) -> httpx2.Response:
    """Once it has loaded, or could not."""
    for _ in range(100):
        answer = httpx2.get(f"{url}/readyz", trust_env=False)
        if answer.is_success or "still loading" not in answer.text:
            return answer
        time.sleep(0.05)
    raise TimeoutError(answer.text)


def test_a_bucket_that_is_not_there(redis_url: str) -> None:
    with s3_server() as s3:
        with live(create_app(settings_for(store_url(s3, "typo"), redis_url))) as url:
            refused = readiness(url)
        assert not refused.is_success
        assert "the object store has no such bucket" in refused.json()["detail"]
        with live(create_app(settings_for(store_url(s3), redis_url))) as url:
            assert readiness(url).is_success
            uploaded = httpx2.post(f"{url}/v1/prompts", content=b"a fox\n", trust_env=False)
            assert uploaded.status_code == 201
