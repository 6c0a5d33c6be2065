"""Whatever goes wrong is raised as a class of the error tree: the one that was answered, or one that fits."""

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest
from fastapi import FastAPI, Response

from retouche.client import AsyncRetouche, Retouche, StageClient
from retouche.contract.stages import GenerateRequest
from retouche.errors import (
    DeadlineExceeded,
    FieldProblem,
    ModelFailure,
    Overloaded,
    RetoucheError,
    ServiceUnreachable,
    all_errors,
)
from serving import problems
from tests.gateway.server import NOTHING_LISTENS
from tests.live import live

FIELDS = [FieldProblem(field="size", problem="is too small")]


@pytest.fixture(scope="module")
def failing() -> Iterator[str]:
    """A server that answers `/v1/jobs/CODE` with the problem of that code, and elsewhere with no answer."""
    app = FastAPI()
    problems.install(app)
    by_code = {error.code: error for error in all_errors()}

    @app.get("/v1/jobs/{code}")
    async def fail(code: str) -> None:
        raise by_code[code]("3 is too small; send 4", fields=FIELDS, retry_after_seconds=7)

    @app.get("/v1/services")
    async def of_another_program() -> dict[str, str]:
        return {"hello": "world"}

    @app.get("/v1/images/{reference}")
    async def cut_off(reference: str) -> Response:
        return Response(b"half", headers={"content-length": "8", "etag": reference})

    @app.get("/v1/jobs/{job_id}/pairs")
    async def cut_off_later(job_id: str) -> Response:
        return Response(job_id, headers={"content-length": "100"})

    @app.post("/v1/generate")
    async def slow() -> None:
        await asyncio.sleep(30)

    @app.get("/v1/runs/{status}")
    async def of_a_proxy(status: int) -> Response:
        return Response("<h1>nothing here</h1>", status, {"retry-after": "7"}, "text/html")

    with live(app) as url:
        yield url


@pytest.mark.parametrize("error", all_errors(), ids=lambda error: error.code)
def test_a_problem_is_raised_again_as_its_class(failing: str, error: type[RetoucheError]) -> None:
    with Retouche(failing) as client, pytest.raises(RetoucheError) as caught:
        client.job(error.code)
    assert type(caught.value) is error
    assert caught.value.detail == "3 is too small; send 4"
    assert (caught.value.fields, caught.value.retry_after_seconds) == (FIELDS, 7)


async def asked(url: str, code: str) -> None:
    async with AsyncRetouche(url) as client:
        await client.job(code)


def test_the_asynchronous_client_raises_the_same(failing: str) -> None:
    with pytest.raises(Overloaded):
        asyncio.run(asked(failing, "overloaded"))


@pytest.mark.parametrize(
    ("status", "code"),
    [(404, "not-found"), (429, "overloaded"), (502, "service-unreachable"), (418, "internal")],
)
def test_a_proxys_page_becomes_the_error_of_its_status(failing: str, status: int, code: str) -> None:
    with Retouche(failing) as client, pytest.raises(RetoucheError, match="nothing here") as caught:
        client.run(str(status))
    assert (caught.value.code, caught.value.retry_after_seconds) == (code, 7)
    assert failing in caught.value.detail


def test_another_programs_answer_is_told_from_ours(failing: str) -> None:
    with Retouche(failing) as client, pytest.raises(ModelFailure, match="is it a Retouche") as caught:
        client.services()
    assert f"{failing}/v1/services" in caught.value.detail


def test_a_body_that_ends_too_early_is_a_broken_connection(failing: str) -> None:
    with (
        Retouche(failing) as client,
        pytest.raises(ServiceUnreachable, match=f"connection to {failing} broke"),
    ):
        client.image("sha256:0")


def test_an_export_that_breaks_off_leaves_no_file(failing: str, tmp_path: Path) -> None:
    with Retouche(failing) as client:
        with pytest.raises(ServiceUnreachable):
            client.export("job-0", tmp_path / "pairs.parquet", "parquet")
        with pytest.raises(RetoucheError):
            client.export("nowhere", tmp_path / "pairs.parquet", "parquet")
    assert list(tmp_path.iterdir()) == []


def test_no_answer_in_time(failing: str) -> None:
    with (
        Retouche(failing, timeout_seconds=0.1) as client,
        pytest.raises(DeadlineExceeded, match=f"{failing}/? did not answer in time"),
    ):
        client.generate(GenerateRequest(prompt="a circle", seed=0))


def test_nothing_listens() -> None:
    with (
        Retouche(NOTHING_LISTENS) as client,
        pytest.raises(ServiceUnreachable, match="is it running") as caught,
    ):
        client.job("job-0")
    assert NOTHING_LISTENS in caught.value.detail


async def drawn(url: str) -> None:
    async with StageClient(url) as client:
        await client.generate(GenerateRequest(prompt="a circle", seed=0))


def test_a_stage_that_nothing_serves() -> None:
    with pytest.raises(ServiceUnreachable, match="nothing answers"):
        asyncio.run(drawn(NOTHING_LISTENS))
