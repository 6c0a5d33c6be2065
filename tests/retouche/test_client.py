"""The SDK alone, against a small server that misbehaves as networks do."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
from fastapi import FastAPI, Response
from fastapi.responses import StreamingResponse

from retouche.client import AsyncRetouche, Retouche
from retouche.contract.jobs import CurationSpec, Job, JobEvent, JobPage, JobReport
from retouche.errors import Conflict, JobNotFound, Overloaded, RetoucheError, ServiceUnreachable
from tests.live import live

JOB = "job-0123456789abcdef"


def job(state: str, number: int = 0) -> Job:
    return Job(
        id=f"job-{number:016x}",
        state=state,
        created_at=datetime(2026, 1, 1, tzinfo=UTC),
        prompts=1,
        shards=1,
        shards_finished=0,
        report=JobReport(),
    )


def event(state: str, kind: str) -> str:
    content = JobEvent(id="1", event=kind, job=job(state)).model_dump_json()
    return f"event: {kind}\ndata: {content}\n\n"


class Gateway:
    """Answers as told; `streams` are the event streams it gives, one a request, each cut off at its end."""

    def __init__(self) -> None:
        self.problem: RetoucheError = Conflict("no")
        self.streams: list[list[str]] = []
        self.app = FastAPI()
        self.app.get("/v1/jobs/{job_id}")(self.fail)
        self.app.get("/v1/jobs/{job_id}/events")(self.events)
        self.app.get("/v1/jobs/{job_id}/pairs")(self.truncated)
        self.app.get("/v1/jobs")(self.pages)

    async def fail(self) -> Response:
        content = self.problem.problem().model_dump_json()
        return Response(content, self.problem.status, media_type="application/problem+json")

    async def events(self) -> StreamingResponse:
        return StreamingResponse(iter(self.streams.pop(0)), media_type="text/event-stream")

    async def truncated(self) -> StreamingResponse:
        async def part() -> AsyncIterator[bytes]:
            yield b"half of it"
            raise ConnectionResetError("the machine is gone")

        return StreamingResponse(part(), headers={"content-length": "1000"})

    async def pages(self, cursor: str | None = None) -> JobPage:
        first = int(cursor.removeprefix("job-"), 16) + 1 if cursor else 0
        jobs = [job("queued", number) for number in range(first, min(first + 2, 5))]
        return JobPage(jobs=jobs, next_cursor=jobs[-1].id if first + 2 < 5 else None)


@pytest.fixture
def gateway() -> Gateway:
    return Gateway()


@pytest.fixture
def client(gateway: Gateway) -> Iterator[Retouche]:
    with live(gateway.app) as url, Retouche(url) as client:
        yield client


@pytest.mark.parametrize("problem", [Conflict("it is finished"), JobNotFound("there is no such job")])
def test_a_problem_is_raised_as_the_class_it_was(
    client: Retouche, gateway: Gateway, problem: RetoucheError
) -> None:
    gateway.problem = problem
    with pytest.raises(type(problem), match=problem.detail):
        client.job(JOB)


def test_how_long_to_wait_comes_along(client: Retouche, gateway: Gateway) -> None:
    gateway.problem = Overloaded("full", retry_after_seconds=2.5)
    with pytest.raises(Overloaded) as raised:
        client.job(JOB)
    assert (raised.value.retryable, raised.value.retry_after_seconds) == (True, 2.5)


def test_every_page_is_read(client: Retouche) -> None:
    assert [found.id for found in client.jobs()] == [f"job-{number:016x}" for number in range(5)]


def test_a_broken_stream_of_events_is_taken_up_again(client: Retouche, gateway: Gateway) -> None:
    gateway.streams = [
        [event("running", "progress")],
        [event("running", "progress"), event("finished", "finished")],
    ]
    assert [found.event for found in client.events(JOB)] == ["progress", "progress", "finished"]


def test_a_download_that_breaks_off_leaves_no_file(client: Retouche, tmp_path: Path) -> None:
    with pytest.raises(ServiceUnreachable):
        client.export(JOB, tmp_path / "pairs.parquet", "parquet")
    assert list(tmp_path.iterdir()) == []


def test_a_gateway_that_is_not_there_is_named() -> None:
    with Retouche("http://127.0.0.1:1") as client, pytest.raises(ServiceUnreachable, match=r"127\.0\.0\.1:1"):
        client.submit(CurationSpec(prompts=("a red circle",)))


def test_the_asynchronous_client_is_the_same(gateway: Gateway) -> None:
    async def listed(url: str) -> list[str]:
        async with AsyncRetouche(url) as client:
            return [found.id async for found in client.jobs()]

    with live(gateway.app) as url:
        assert len(asyncio.run(listed(url))) == 5
