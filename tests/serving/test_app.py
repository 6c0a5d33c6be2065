"""What every process answers: health, readiness, metrics, and each failure as a problem."""

import asyncio
import threading
import time
from collections.abc import Iterator

import httpx2
import pytest
from fastapi import APIRouter, FastAPI, Request

from retouche.contract.payload import Payload, Prompt
from retouche.contract.services import Readiness
from retouche.errors import Overloaded
from serving.app import Loaded, create_app, require_ready, while_connected
from tests.live import live

router = APIRouter()
given_up = threading.Event()


class Echo(Payload):
    prompt: Prompt
    count: int = 1


@router.post("/echo")
async def echo(payload: Echo, request: Request) -> Echo:
    require_ready(request)
    return payload


@router.post("/overloaded")
async def overloaded() -> None:
    raise Overloaded("too much", retry_after_seconds=2.5)


@router.post("/broken")
async def broken() -> None:
    raise ZeroDivisionError("a secret of the inside")


@router.post("/slow")
async def slow(request: Request) -> None:
    async def never() -> None:
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            given_up.set()
            raise

    await while_connected(request, never())


async def nothing() -> None:
    """There is nothing to shut down."""


async def load(_: FastAPI) -> Loaded:
    return Readiness(), nothing


async def load_forever(_: FastAPI) -> Loaded:
    await asyncio.sleep(3600)
    return Readiness(), nothing


async def load_nothing(_: FastAPI) -> Loaded:
    raise FileNotFoundError("no such folder: models")


@pytest.fixture(scope="module")
def service() -> Iterator[httpx2.Client]:
    with (
        live(create_app("Echo", router, load, max_body_bytes=10_000)) as url,
        httpx2.Client(base_url=url) as client,
    ):
        while client.get("/readyz").status_code != 200:
            time.sleep(0.01)
        yield client


def problem(answer: httpx2.Response, status: int, code: str) -> dict[str, object]:
    assert answer.headers["content-type"] == "application/problem+json"
    body: dict[str, object] = answer.json()
    assert (answer.status_code, body["status"], body["type"]) == (status, status, f"urn:retouche:{code}")
    return body


@pytest.mark.parametrize(
    ("payload", "field"),
    [
        ({}, "prompt"),
        ({"prompt": ""}, "prompt"),
        ({"prompt": "x" * 3_000}, "prompt"),
        ({"prompt": "a", "colour": "red"}, "colour"),
        ({"prompt": "a", "count": "many"}, "count"),
    ],
)
def test_a_payload_that_does_not_fit_is_refused_by_its_field(
    service: httpx2.Client, payload: dict[str, str], field: str
) -> None:
    body = problem(service.post("/echo", json=payload), 422, "invalid-payload")
    assert [entry["field"] for entry in body["fields"]] == [field]  # type: ignore[attr-defined]


def test_half_a_character_is_a_payload_that_does_not_fit(service: httpx2.Client) -> None:
    problem(service.post("/echo", content=b'{"prompt": "\\ud800"}', headers=JSON), 422, "invalid-payload")


JSON = {"content-type": "application/json"}


def test_what_is_not_json_is_a_bad_request(service: httpx2.Client) -> None:
    problem(service.post("/echo", content=b"{'a'", headers=JSON), 400, "bad-request")


def test_a_body_beyond_the_limit_is_refused_announced_or_not(service: httpx2.Client) -> None:
    def pieces() -> Iterator[bytes]:
        yield from (b" " * 1_000 for _ in range(20))

    problem(service.post("/echo", content=b" " * 20_000, headers=JSON), 413, "payload-too-large")
    problem(service.post("/echo", content=pieces(), headers=JSON), 413, "payload-too-large")


def test_unknown_paths_and_methods_are_problems(service: httpx2.Client) -> None:
    problem(service.get("/nowhere"), 404, "not-found")
    answer = service.get("/echo")
    problem(answer, 405, "bad-request")
    assert answer.headers["allow"] == "POST"


def test_overload_says_when_to_come_back(service: httpx2.Client) -> None:
    answer = service.post("/overloaded")
    assert problem(answer, 429, "overloaded")["retry_after_seconds"] == 2.5
    assert answer.headers["retry-after"] == "3"


def test_an_unexpected_error_tells_nothing_of_the_inside(service: httpx2.Client) -> None:
    answer = service.post("/broken", headers={"connection": "close"})
    problem(answer, 500, "internal")
    assert "secret" not in answer.text


def test_the_work_for_a_caller_who_leaves_is_given_up(service: httpx2.Client) -> None:
    with pytest.raises(httpx2.ReadTimeout):
        service.post("/slow", timeout=0.2)
    assert given_up.wait(10)


def test_metrics_know_the_routes(service: httpx2.Client) -> None:
    service.post("/echo", json={"prompt": "a"})
    assert 'retouche_request_seconds_count{route="/echo",status="200"}' in service.get("/metrics").text


def test_while_the_models_load_it_is_alive_but_not_ready() -> None:
    with live(create_app("Echo", router, load_forever)) as url:
        assert httpx2.get(f"{url}/healthz").status_code == 200
        for answer in (httpx2.get(f"{url}/readyz"), httpx2.post(f"{url}/echo", json={"prompt": "a"})):
            assert problem(answer, 503, "unavailable")["retryable"]


def test_models_that_cannot_be_loaded_are_told_at_readyz() -> None:
    with live(create_app("Echo", router, load_nothing)) as url:
        while "still loading" in (answer := httpx2.get(f"{url}/readyz")).text:
            time.sleep(0.01)
        assert "no such folder: models" in str(problem(answer, 503, "unavailable")["detail"])
