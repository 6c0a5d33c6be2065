"""The client waits where a gateway says to come back soon, and tells where it would have to wait for long."""

import asyncio
import itertools
from collections.abc import Iterator

import pytest
from fastapi import FastAPI, Request, Response

from retouche.client import AsyncRetouche, Retouche
from retouche.contract.jobs import ImageInfo
from retouche.errors import Overloaded
from serving.problems import answer
from tests.live import live

IMAGE = ImageInfo(image="sha256:" + "0" * 64, width=8, height=8, bytes=3, media_type="image/webp")


class Busy:
    """A gateway that refuses the first calls; `retry_after` is what it says then."""

    def __init__(self, refusals: int, retry_after: str) -> None:
        self.app, self.calls = FastAPI(), itertools.count(1)
        self.refusals, self.retry_after = refusals, retry_after
        self.app.post("/v1/images", response_model=None)(self.upload)

    async def upload(self, request: Request) -> ImageInfo | Response:
        assert await request.body() == b"png"
        if next(self.calls) > self.refusals:
            return IMAGE
        refused = answer(Overloaded("you call too often"))
        refused.headers["retry-after"] = self.retry_after
        return refused


@pytest.fixture
def busy(request: pytest.FixtureRequest) -> Iterator[tuple[Busy, str]]:
    gateway = Busy(*request.param)
    with live(gateway.app) as url:
        yield gateway, url


@pytest.mark.parametrize("busy", [(3, "0")], indirect=True)
def test_a_short_wait_is_waited_out(busy: tuple[Busy, str]) -> None:
    with Retouche(busy[1]) as client:
        assert client.upload_image(b"png") == IMAGE
    assert next(busy[0].calls) == 5


@pytest.mark.parametrize("busy", [(1, "30")], indirect=True)
def test_a_long_one_is_told(busy: tuple[Busy, str]) -> None:
    async def call() -> None:
        async with AsyncRetouche(busy[1]) as client:
            await client.upload_image(b"png")

    with pytest.raises(Overloaded, match="too often"):
        asyncio.run(call())
    assert next(busy[0].calls) == 2
