"""An application served on a free port, as tests call it."""

from collections.abc import Iterator
from contextlib import contextmanager

import httpx2
from fastapi import FastAPI

from tests.live import live
from tests.until import until

NOTHING_LISTENS = "http://127.0.0.1:1"


@contextmanager
def serve(app: FastAPI) -> Iterator[httpx2.Client]:
    """A client of the application, once it is ready."""
    with live(app) as url, httpx2.Client(base_url=url, trust_env=False, timeout=20) as client:
        until(lambda: _ready(client))
        yield client


def _ready(client: httpx2.Client) -> bool:
    answer = client.get("/readyz")
    assert "could not be loaded" not in answer.text, answer.text
    return answer.is_success
