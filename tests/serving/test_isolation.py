"""A request that must be alone: nothing runs beside it, and it never waits where it could die with others."""

import asyncio

import httpx2
import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Route

from retouche.contract.services import ALONE_HEADER
from serving.isolation import Isolation

ALONE = {ALONE_HEADER: "1"}


class Verb:
    """A service whose one verb ends when it is told to."""

    def __init__(self) -> None:
        self.end = asyncio.Event()
        self.begun = asyncio.Semaphore(0)
        routes = [Route("/v1/verb", self._verb, methods=["POST"]), Route("/healthz", self._healthz)]
        transport = httpx2.ASGITransport(app=Isolation(Starlette(routes=routes)))
        self.client = httpx2.AsyncClient(base_url="http://service", transport=transport)

    async def _verb(self, _: Request) -> PlainTextResponse:
        self.begun.release()
        await self.end.wait()
        return PlainTextResponse("done")

    async def _healthz(self, _: Request) -> PlainTextResponse:
        return PlainTextResponse("alive")

    async def begin(self, headers: dict[str, str]) -> "asyncio.Task[httpx2.Response]":
        """A call that is under way."""
        call = asyncio.create_task(self.call(headers))
        await self.begun.acquire()
        return call

    async def call(self, headers: dict[str, str]) -> httpx2.Response:
        return await self.client.post("/v1/verb", headers=headers)


def test_while_others_are_at_work_it_is_refused_and_no_more_are_let_in() -> None:
    async def scenario() -> None:
        verb = Verb()
        other = await verb.begin({})
        suspect = await verb.call(ALONE)
        assert (suspect.status_code, suspect.json()["type"]) == (429, "urn:retouche:overloaded")
        assert (await verb.call({})).status_code == 429, "or it would never find the service empty"
        verb.end.set()
        assert (await other).text == "done"
        assert (await verb.call({})).status_code == 429, "it has yet to come back"
        assert (await verb.call(ALONE)).text == "done"
        assert (await verb.call({})).text == "done"

    asyncio.run(scenario())


@pytest.mark.parametrize("headers", [{}, ALONE], ids=["any other", "another suspect"])
def test_beside_it_nothing_runs(headers: dict[str, str]) -> None:
    async def scenario() -> None:
        verb = Verb()
        alone = await verb.begin(ALONE)
        assert (await verb.call(headers)).status_code == 429
        assert (await verb.client.get("/healthz")).text == "alive"
        verb.end.set()
        assert (await alone).text == "done"
        assert verb.begun.locked(), "no other was begun"

    asyncio.run(scenario())


def test_without_one_all_run_side_by_side() -> None:
    async def scenario() -> None:
        verb = Verb()
        calls = [await verb.begin({}) for _ in range(3)]
        verb.end.set()
        assert [(await call).text for call in calls] == ["done"] * 3

    asyncio.run(scenario())
