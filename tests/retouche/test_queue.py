"""Shards are enqueued once each, a window of them at a time, and again when Redis has lost them."""

import pytest
from redis import Redis
from rq import Queue
from rq.job import JobStatus

from retouche.contract.payload import LOCAL
from retouche.coordination import ENQUEUE_WINDOW, shard_task_id
from retouche.queue import curate_queue, enqueue_next, enqueue_shard, fill_window, forget_shards

JOB = "job-0123456789abcdef"


@pytest.fixture
def queue(redis_url: str) -> Queue:
    return curate_queue(Redis.from_url(redis_url))


def waiting(queue: Queue) -> list[int]:
    return [int(task.rsplit("_", 1)[1]) for task in queue.job_ids]


def test_only_a_window_of_a_large_job_is_enqueued(queue: Queue) -> None:
    assert fill_window(queue, LOCAL, JOB, range(1_000)) == []
    assert waiting(queue) == list(range(ENQUEUE_WINDOW))


def test_each_shard_that_ends_brings_the_next(queue: Queue) -> None:
    fill_window(queue, LOCAL, JOB, range(ENQUEUE_WINDOW + 1))
    assert enqueue_next(queue, LOCAL, JOB, ENQUEUE_WINDOW + 1) == ENQUEUE_WINDOW
    assert enqueue_next(queue, LOCAL, JOB, ENQUEUE_WINDOW + 1) is None
    assert waiting(queue) == list(range(ENQUEUE_WINDOW + 1))


def test_filling_twice_changes_nothing(queue: Queue) -> None:
    fill_window(queue, LOCAL, JOB, range(1_000))
    fill_window(queue, LOCAL, JOB, range(1_000))
    assert waiting(queue) == list(range(ENQUEUE_WINDOW))


def test_a_lost_redis_gets_the_missing_shards_again(queue: Queue) -> None:
    fill_window(queue, LOCAL, JOB, range(5))
    queue.connection.flushall()
    fill_window(queue, LOCAL, JOB, [1, 4])
    assert waiting(queue) == [1, 4]


def test_a_task_that_rq_lost_alone_is_enqueued_again(queue: Queue) -> None:
    fill_window(queue, LOCAL, JOB, range(3))
    task = queue.fetch_job(shard_task_id(JOB, 1))
    assert task is not None
    task.delete()
    fill_window(queue, LOCAL, JOB, range(3))
    assert sorted(waiting(queue)) == [0, 1, 2]


def test_what_rq_gave_up_is_said_and_can_be_forgotten(queue: Queue) -> None:
    fill_window(queue, LOCAL, JOB, range(2))
    task = queue.fetch_job(shard_task_id(JOB, 0))
    assert task is not None
    task.set_status(JobStatus.FAILED)
    assert fill_window(queue, LOCAL, JOB, range(2)) == [0]
    forget_shards(queue, JOB, range(2))
    assert enqueue_shard(queue, LOCAL, JOB, 0) == "enqueued"
    assert enqueue_shard(queue, LOCAL, JOB, 1) == "waiting"
