"""The services' endpoints behind the gateway's address, over a stand-in that answers by the contract."""

import threading
from collections.abc import Iterator

import httpx2
import pytest
from fastapi import APIRouter, FastAPI, Request, Response
from starlette.applications import Starlette
from starlette.responses import HTMLResponse

from gateway.app import create_app
from gateway.settings import Settings
from retouche.contract.payload import ModelIdentity
from retouche.contract.services import MEMO_HEADER, Readiness
from retouche.contract.stages import GenerateRequest, GenerateResponse
from retouche.errors import Overloaded
from serving.app import Loaded
from serving.app import create_app as create_service
from serving.guard import Admit, only_with
from tests.gateway.server import serve
from tests.live import live

MODEL = ModelIdentity(id="example/model", revision="1")
IMAGE = "sha256:" + "0" * 64


class Generation:
    """A stand-in of the generation service; the prompt says what it does."""

    def __init__(self) -> None:
        self.asked: list[GenerateRequest] = []
        self.begun, self.abandoned = threading.Event(), threading.Event()

    def app(self, admit: Admit | None = None) -> FastAPI:
        router = APIRouter()
        router.post("/v1/generate")(self.generate)

        async def load(_: FastAPI) -> Loaded:
            return Readiness(models={"generation": MODEL}), self.stop

        return create_service("stand-in", router, load, admit=admit)

    async def stop(self) -> None:
        """Nothing to stop."""

    async def generate(
        self, payload: GenerateRequest, request: Request, response: Response
    ) -> GenerateResponse:
        self.asked.append(payload)
        if payload.prompt == "too many":
            raise Overloaded("256 items wait for this model", retry_after_seconds=7)
        if payload.prompt == "never":
            await self._until_abandoned(request)
        response.headers[MEMO_HEADER] = "hit"
        return GenerateResponse(image=IMAGE, model=MODEL)

    async def _until_abandoned(self, request: Request) -> None:
        self.begun.set()
        while (await request.receive())["type"] != "http.disconnect":
            continue
        self.abandoned.set()


@pytest.fixture
def generation() -> Generation:
    return Generation()


@pytest.fixture
def gateway(generation: Generation, settings: Settings) -> Iterator[httpx2.Client]:
    """A gateway with one service behind it; the others are down."""
    with serve(generation.app()) as service:
        urls = {"generation_url": str(service.base_url)}
        with serve(create_app(settings.model_copy(update=urls))) as client:
            yield client


def test_a_call_goes_through(gateway: httpx2.Client, generation: Generation) -> None:
    answer = gateway.post("/v1/generate", json={"prompt": "a red circle", "seed": 7})
    assert answer.json() == {"image": IMAGE, "model": MODEL.model_dump()}
    assert answer.headers[MEMO_HEADER] == "hit"
    assert generation.asked == [GenerateRequest(prompt="a red circle", seed=7)]


def test_a_services_problem_goes_through(gateway: httpx2.Client) -> None:
    answer = gateway.post("/v1/generate", json={"prompt": "too many", "seed": 7})
    assert (answer.status_code, answer.json()["type"]) == (429, "urn:retouche:overloaded")
    assert answer.headers["retry-after"] == "7"
    assert "256 items wait" in answer.json()["detail"]


def test_a_service_that_refuses_the_gateway_does_not_blame_the_caller(
    generation: Generation, settings: Settings
) -> None:
    with serve(generation.app(admit=only_with("another-token-than-the-gateways-own"))) as service:
        urls = {"generation_url": str(service.base_url)}
        with serve(create_app(settings.model_copy(update=urls))) as gateway:
            answer = gateway.post("/v1/generate", json={"prompt": "x", "seed": 7})
    assert (answer.status_code, answer.json()["type"]) == (503, "urn:retouche:unavailable")
    assert "RETOUCHE_INTERNAL_TOKEN" in answer.json()["detail"]
    assert "www-authenticate" not in answer.headers


def test_a_bad_payload_does_not_reach_the_service(gateway: httpx2.Client, generation: Generation) -> None:
    answer = gateway.post("/v1/generate", json={"prompt": "x", "seed": 7, "width": 1_000_000})
    assert (answer.status_code, answer.json()["fields"][0]["field"]) == (422, "width")
    assert generation.asked == []


def test_a_service_that_is_down_is_named(gateway: httpx2.Client) -> None:
    gateway.post("/v1/generate", json={"prompt": "x", "seed": 7})
    answer = gateway.post("/v1/critique", json={"prompt": "x", "image": IMAGE})
    assert (answer.status_code, answer.json()["type"]) == (503, "urn:retouche:service-unreachable")
    assert "nothing answers at the critique service (" in answer.json()["detail"]


def test_what_stands_before_a_service_is_not_located(settings: Settings) -> None:
    proxy = Starlette(exception_handlers={404: lambda *_: HTMLResponse("<html>no backend", 502)})
    with (
        live(proxy) as url,
        serve(create_app(settings.model_copy(update={"generation_url": url}))) as gateway,
    ):
        answer = gateway.post("/v1/generate", json={"prompt": "x", "seed": 7})
    assert (answer.status_code, answer.json()["type"]) == (503, "urn:retouche:service-unreachable")
    assert "the generation service answered 502 without a problem" in answer.json()["detail"]
    assert url not in answer.json()["detail"]


def test_the_services_state_is_told(gateway: httpx2.Client) -> None:
    services = gateway.get("/v1/services").json()
    assert services["generation"]["readiness"]["models"] == {"generation": MODEL.model_dump()}
    assert [name for name, status in services.items() if not status["ready"]] == [
        "critique",
        "instruction",
        "editing",
        "reward",
    ]


def test_a_caller_who_leaves_takes_the_call_with_him(gateway: httpx2.Client, generation: Generation) -> None:
    with pytest.raises(httpx2.ReadTimeout):
        gateway.post("/v1/generate", json={"prompt": "never", "seed": 7}, timeout=0.5)
    assert generation.begun.is_set()
    assert generation.abandoned.wait(timeout=10)


def test_a_body_without_end_is_refused(gateway: httpx2.Client) -> None:
    body = (b'{"prompt": "' if part == 0 else b"x" * 1_000_000 for part in range(70))
    answer = gateway.post("/v1/generate", content=body, headers={"content-type": "application/json"})
    assert (answer.status_code, answer.json()["type"]) == (413, "urn:retouche:payload-too-large")
