"""A job is followed to its end, whatever becomes of the connection meanwhile."""

from collections.abc import AsyncIterator, Sequence
from contextlib import AbstractContextManager
from datetime import UTC, datetime

import pytest
from fastapi import FastAPI
from fastapi.responses import StreamingResponse

from retouche.client import Retouche
from retouche.contract.jobs import Job, JobEvent, JobReport
from retouche.errors import JobNotFound, ServiceUnreachable
from serving import problems
from tests.live import live

JOB = Job(
    id="job-" + "0" * 16,
    state="running",
    created_at=datetime(2026, 1, 1, tzinfo=UTC),
    images_per_prompt=1,
    prompts=64,
    shards=1,
    shards_finished=0,
    report=JobReport(),
)
PROGRESS = JobEvent(id="1", event="progress", job=JOB)
FINISHED = JobEvent(id="2", event="finished", job=JOB.model_copy(update={"state": "finished"}))


def telling(*connections: Sequence[JobEvent], whole: bool) -> AbstractContextManager[str]:
    """A server that tells each connection its events and then hangs up, properly if `whole`."""
    app, waiting = FastAPI(), iter(connections)
    problems.install(app)

    async def tell(events: Sequence[JobEvent]) -> AsyncIterator[str]:
        for event in events:
            yield f"id: {event.id}\ndata: {event.model_dump_json()}\n\n"
        if not whole and events[-1:] != [FINISHED]:
            raise ConnectionAbortedError

    @app.get("/v1/jobs/{job_id}/events")
    async def follow(job_id: str) -> StreamingResponse:
        if job_id != JOB.id:
            raise JobNotFound(f"there is no job {job_id}")
        return StreamingResponse(tell(next(waiting)), media_type="text/event-stream")

    return live(app)


@pytest.mark.parametrize("whole", [True, False], ids=["closed", "broken off"])
def test_a_stream_that_ends_too_early_is_taken_up_again(whole: bool) -> None:
    with telling([PROGRESS], [PROGRESS, FINISHED], whole=whole) as url, Retouche(url) as client:
        assert [event.event for event in client.events(JOB.id)] == ["progress", "progress", "finished"]


def test_waiting_gives_the_job_as_it_ended() -> None:
    with telling([PROGRESS, FINISHED], whole=True) as url, Retouche(url) as client:
        assert client.wait(JOB.id).state == "finished"


@pytest.mark.parametrize("whole", [True, False], ids=["closed", "broken off"])
def test_a_stream_that_never_comes_back_is_an_error_in_the_end(whole: bool) -> None:
    with telling([PROGRESS], whole=whole) as url, Retouche(url, reconnections=0) as client:
        told = client.events(JOB.id)
        assert next(told) == PROGRESS
        with pytest.raises(ServiceUnreachable, match=url):
            next(told)


def test_a_job_that_is_not_there_is_said_at_once() -> None:
    with telling(whole=True) as url, Retouche(url) as client, pytest.raises(JobNotFound):
        next(client.events("job-" + "1" * 16))


def test_whoever_stops_listening_can_close_the_client() -> None:
    with telling([PROGRESS, FINISHED], whole=True) as url, Retouche(url) as client:
        assert next(client.events(JOB.id)) == PROGRESS
