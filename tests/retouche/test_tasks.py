"""What is planted in Redis is not run: no other function, no callback, no webhook, no other argument."""

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest
from redis import Redis
from rq import Callback, Queue, Webhook
from rq.job import JobStatus
from rq.registry import StartedJobRegistry, clean_registries
from rq.serializers import JSONSerializer

from retouche.coordination import CURATE_FUNCTION, CURATE_QUEUE, TRAIN_FUNCTION
from retouche.queue import curate_queue, train_queue
from retouche.tasks import PlainJob, refusal

JOB, RUN = "job-0123456789abcdef", "run-0123456789abcdef"


def leave_a_trace(job: PlainJob, *_: object) -> None:
    """A callback that somebody plants."""
    Path(job.args[0]).touch()


TRACE = f"{__name__}.leave_a_trace"


@pytest.mark.parametrize(
    ("task", "problem"),
    [
        ({"func": "os.mkdir", "args": ("there",)}, "os.mkdir"),
        ({"func": CURATE_FUNCTION, "args": ()}, "arguments"),
        ({"func": CURATE_FUNCTION, "args": ([JOB], 0)}, "arguments"),
        ({"func": CURATE_FUNCTION, "args": (JOB,)}, "arguments"),
        ({"func": CURATE_FUNCTION, "args": (JOB, 0, 0)}, "arguments"),
        ({"func": CURATE_FUNCTION, "args": (JOB, -1)}, "arguments"),
        ({"func": CURATE_FUNCTION, "args": (JOB, "0")}, "arguments"),
        ({"func": CURATE_FUNCTION, "args": ("../keys", 0)}, "arguments"),
        ({"func": CURATE_FUNCTION, "args": (JOB, 0), "kwargs": {"more": 1}}, "arguments"),
    ],
)
def test_what_is_no_shard_is_not_run(redis_url: str, task: dict[str, Any], problem: str) -> None:
    with Redis.from_url(redis_url) as connection:
        made = PlainJob.create(connection=connection, serializer=JSONSerializer, **task)
        assert problem in (refusal(made, CURATE_FUNCTION) or "")


@pytest.mark.parametrize("args", [("../../etc",), (RUN, 1), (), (7,)])
def test_what_is_no_run_is_not_run(redis_url: str, args: tuple[object, ...]) -> None:
    with Redis.from_url(redis_url) as connection:
        made = PlainJob.create(TRAIN_FUNCTION, args, connection=connection, serializer=JSONSerializer)
        assert "arguments" in (refusal(made, TRAIN_FUNCTION) or "")


@pytest.mark.parametrize(("function", "args"), [(CURATE_FUNCTION, (JOB, 0)), (TRAIN_FUNCTION, (RUN,))])
def test_a_shard_and_a_run_are_run(redis_url: str, function: str, args: tuple[object, ...]) -> None:
    with Redis.from_url(redis_url) as connection:
        made = PlainJob.create(function, args, connection=connection, serializer=JSONSerializer)
        assert refusal(made, function) is None


def plant(connection: Redis, trace: Path, url: str) -> str:
    """Every callback and a webhook, as whoever can write to Redis may write them; returns the job's id."""
    plain = Queue(CURATE_QUEUE, connection=connection, serializer=JSONSerializer)
    planted = plain.enqueue_call(
        CURATE_FUNCTION,
        args=(str(trace), 0),
        on_success=Callback(TRACE),
        on_failure=Callback(TRACE),
        on_stopped=Callback(TRACE),
        webhooks=[Webhook(url, "failed")],
    )
    return str(planted.id)


class _Told(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        self.server.told.append(self.path)  # type: ignore[attr-defined]
        self.send_response(200)
        self.end_headers()


@pytest.fixture
def told() -> Iterator[tuple[str, list[str]]]:
    """An address, and what was sent to it."""
    server = HTTPServer(("127.0.0.1", 0), _Told)
    server.told = []  # type: ignore[attr-defined]
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}/told", server.told  # type: ignore[attr-defined]
    server.shutdown()
    server.server_close()


def test_a_planted_job_has_no_callback_and_no_webhook(
    redis_url: str, tmp_path: Path, told: tuple[str, list[str]]
) -> None:
    with Redis.from_url(redis_url) as connection:
        planted = plant(connection, tmp_path / "trace", told[0])
        fetched = PlainJob.fetch(planted, connection, JSONSerializer)
        callbacks = (fetched.success_callback, fetched.failure_callback, fetched.stopped_callback)
        assert callbacks == (None, None, None)
        assert fetched.webhooks == []


@pytest.mark.parametrize("made", [curate_queue, train_queue])
def test_upkeep_calls_nothing_of_a_job_that_no_worker_accepted(
    redis_url: str, tmp_path: Path, told: tuple[str, list[str]], made: Any
) -> None:
    """The registry of jobs at work holds one whose worker is said to be gone: it is cleaned up."""
    url, posts = told
    with Redis.from_url(redis_url) as connection:
        queue = made(connection)
        planted = plant(connection, tmp_path / "trace", url)
        registry = StartedJobRegistry(
            queue.name, connection, job_class=queue.job_class, serializer=JSONSerializer
        )
        connection.zadd(registry.key, {f"{planted}:execution": 1})
        clean_registries(queue)
        assert connection.zcard(registry.key) == 0, "it was cleaned up"
        assert PlainJob.fetch(planted, connection, JSONSerializer).get_status() == JobStatus.FAILED
    assert not (tmp_path / "trace").exists()
    assert posts == []
