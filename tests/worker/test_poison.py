"""A prompt that kills a service is given up, and nobody is given up beside it: not even in another worker."""

import asyncio
from collections.abc import Awaitable

import httpx2
import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from retouche.client.stages import StageClient
from retouche.contract.payload import ModelIdentity
from retouche.contract.stages import Critique, CritiqueRequest, CritiqueResponse
from retouche.errors import ModelFailure
from serving.isolation import Isolation
from worker.limits import Limit

POISON = "hemlock"
IMAGE = "sha256:" + 64 * "0"
ANSWER = CritiqueResponse(
    critique=Critique(description="water", findings=()), model=ModelIdentity(id="m", revision="1")
)


class MortalService:
    """Dies of POISON with every request under way; is there again at once, knowing nothing of its past."""

    def __init__(self) -> None:
        self.deaths = 0
        self._live()

    def _live(self) -> None:
        self._died = asyncio.Event()
        self._app = Isolation(Starlette(routes=[Route("/v1/critique", self._critique, methods=["POST"])]))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        died = self._died
        answering = asyncio.ensure_future(self._app(scope, receive, send))
        dying = asyncio.ensure_future(died.wait())
        await asyncio.wait({answering, dying}, return_when=asyncio.FIRST_COMPLETED)
        dying.cancel()
        if died.is_set():
            answering.cancel()
            raise httpx2.RemoteProtocolError("server disconnected without sending a response")
        await answering

    async def _critique(self, request: Request) -> JSONResponse:
        if POISON in (await request.json())["prompt"]:
            self.deaths += 1
            self._died.set()
            self._live()
        await asyncio.sleep(0.03)
        return JSONResponse(ANSWER.model_dump(mode="json"))


async def worker(service: MortalService, prompts: list[str]) -> list[CritiqueResponse | BaseException]:
    """What one worker makes of the prompts, all of them begun at once."""

    async def critique(prompt: str) -> CritiqueResponse:
        request = CritiqueRequest(prompt=prompt, image=IMAGE)
        return (await limit(lambda: client.critique(request))).response

    limit = Limit("critique", 64, patience_seconds=30, sleep=lambda seconds: asyncio.sleep(seconds / 20))
    transport = httpx2.ASGITransport(app=service)
    async with StageClient("http://critique", transport=transport) as client:
        return await asyncio.gather(*map(critique, prompts), return_exceptions=True)


@pytest.mark.parametrize("workers", [1, 3])
def test_only_the_prompt_that_the_service_dies_of_alone_is_given_up(workers: int) -> None:
    """Every worker has one of its own that kills, which could take the others' along again and again."""

    async def scenario() -> tuple[list[list[CritiqueResponse | BaseException]], int]:
        service = MortalService()
        work: list[Awaitable[list[CritiqueResponse | BaseException]]] = [
            worker(service, [f"{POISON} {number}", *(f"water {glass}" for glass in range(12))])
            for number in range(workers)
        ]
        return list(await asyncio.gather(*work)), service.deaths

    results, deaths = asyncio.run(scenario())
    for poisoned, *others in results:
        assert isinstance(poisoned, ModelFailure)
        assert "with nothing else to do" in poisoned.detail
        assert others == [ANSWER] * 12
    assert deaths <= 6 * workers
