"""Shards are enqueued once each, a window of them at a time, and again when Redis has lost them."""

from typing import Any

import pytest
from redis import Redis
from rq import Callback, Queue
from rq.job import Job as RqJob
from rq.job import JobStatus
from rq.serializers import JSONSerializer

from retouche.coordination import CURATE_FUNCTION, ENQUEUE_WINDOW, shard_task_id
from retouche.queue import curate_queue, enqueue_next, enqueue_shard, fill_window, forget_shards, refusal

JOB = "job-0123456789abcdef"


@pytest.fixture
def queue(redis_url: str) -> Queue:
    return curate_queue(Redis.from_url(redis_url))


def waiting(queue: Queue) -> list[int]:
    return [int(task.rsplit("_", 1)[1]) for task in queue.job_ids]


def test_only_a_window_of_a_large_job_is_enqueued(queue: Queue) -> None:
    assert fill_window(queue, JOB, range(1_000)) == []
    assert waiting(queue) == list(range(ENQUEUE_WINDOW))


def test_each_shard_that_ends_brings_the_next(queue: Queue) -> None:
    fill_window(queue, JOB, range(ENQUEUE_WINDOW + 1))
    assert enqueue_next(queue, JOB, ENQUEUE_WINDOW + 1) == ENQUEUE_WINDOW
    assert enqueue_next(queue, JOB, ENQUEUE_WINDOW + 1) is None
    assert waiting(queue) == list(range(ENQUEUE_WINDOW + 1))


def test_filling_twice_changes_nothing(queue: Queue) -> None:
    fill_window(queue, JOB, range(1_000))
    fill_window(queue, JOB, range(1_000))
    assert waiting(queue) == list(range(ENQUEUE_WINDOW))


def test_a_lost_redis_gets_the_missing_shards_again(queue: Queue) -> None:
    fill_window(queue, JOB, range(5))
    queue.connection.flushall()
    fill_window(queue, JOB, [1, 4])
    assert waiting(queue) == [1, 4]


def test_a_task_that_rq_lost_alone_is_enqueued_again(queue: Queue) -> None:
    fill_window(queue, JOB, range(3))
    task = queue.fetch_job(shard_task_id(JOB, 1))
    assert task is not None
    task.delete()
    fill_window(queue, JOB, range(3))
    assert sorted(waiting(queue)) == [0, 1, 2]


def test_what_rq_gave_up_is_said_and_can_be_forgotten(queue: Queue) -> None:
    fill_window(queue, JOB, range(2))
    task = queue.fetch_job(shard_task_id(JOB, 0))
    assert task is not None
    task.set_status(JobStatus.FAILED)
    assert fill_window(queue, JOB, range(2)) == [0]
    forget_shards(queue, JOB, range(2))
    assert enqueue_shard(queue, JOB, 0) == "enqueued"
    assert enqueue_shard(queue, JOB, 1) == "waiting"


@pytest.mark.parametrize(
    ("task", "problem"),
    [
        ({"func": "os.mkdir", "args": ("there",)}, "os.mkdir"),
        ({"func": CURATE_FUNCTION, "args": ()}, "arguments"),
        ({"func": CURATE_FUNCTION, "args": (["job"], 0)}, "arguments"),
        ({"func": CURATE_FUNCTION, "args": ("job", 0), "kwargs": {"more": 1}}, "arguments"),
        (
            {"func": CURATE_FUNCTION, "args": ("job", 0), "on_failure": Callback("os.abort")},
            "another function",
        ),
        (
            {"func": CURATE_FUNCTION, "args": ("job", 0), "on_success": Callback("os.abort")},
            "another function",
        ),
    ],
)
def test_what_is_no_shard_is_not_run(redis_url: str, task: dict[str, Any], problem: str) -> None:
    with Redis.from_url(redis_url) as connection:
        made = RqJob.create(connection=connection, serializer=JSONSerializer, **task)
        assert problem in (refusal(made, CURATE_FUNCTION) or "")


def test_a_shard_is_run(redis_url: str) -> None:
    with Redis.from_url(redis_url) as connection:
        made = RqJob.create(CURATE_FUNCTION, ("job", 0), connection=connection, serializer=JSONSerializer)
        assert refusal(made, CURATE_FUNCTION) is None
