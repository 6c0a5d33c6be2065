"""A service under a real uvicorn, asked once its models are loaded."""

import time
from collections.abc import Iterator
from contextlib import contextmanager

import httpx2
from starlette.types import ASGIApp

from tests.live import live


@contextmanager
def ready(app: ASGIApp) -> Iterator[httpx2.Client]:
    """A client of the service that `app` is."""
    with live(app) as url, httpx2.Client(base_url=url, timeout=60) as client:
        until_ready(client)
        yield client


def until_ready(service: httpx2.Client) -> None:
    """Wait until the service has loaded its models."""
    while (answer := service.get("/readyz")).status_code == 503 and "still loading" in answer.text:
        time.sleep(0.05)
    assert answer.is_success, answer.text
