"""Shards are enqueued once each, a window of them at a time, and again when Redis has lost them."""

from collections.abc import Callable
from typing import Any

import pytest
from redis import Redis
from rq import Queue
from rq.executions import Execution
from rq.job import Job as RqJob
from rq.job import JobStatus

from retouche.contract.payload import LOCAL
from retouche.coordination import (
    ENQUEUE_WINDOW,
    UNUSED_SECONDS,
    next_shard_key,
    progressed_key,
    shard_task_id,
)
from retouche.queue import (
    LOST_SECONDS,
    RETRIES,
    count_anew_after_progress,
    curate_queue,
    enqueue_next,
    enqueue_shard,
    fill_window,
    forget_shards,
    look_after,
)

JOB = "job-0123456789abcdef"


@pytest.fixture
def queue(redis_url: str) -> Queue:
    return curate_queue(Redis.from_url(redis_url))


def none(_shard: int) -> bool:
    """No shard is finished."""
    return False


def waiting(queue: Queue) -> list[int]:
    return [int(task.rsplit("_", 1)[1]) for task in queue.job_ids]


def test_only_a_window_of_a_large_job_is_enqueued(queue: Queue) -> None:
    assert fill_window(queue, LOCAL, JOB, range(1_000)) == []
    assert waiting(queue) == list(range(ENQUEUE_WINDOW))


def test_each_shard_that_ends_brings_the_next(queue: Queue) -> None:
    fill_window(queue, LOCAL, JOB, range(ENQUEUE_WINDOW + 1))
    assert enqueue_next(queue, LOCAL, JOB, ENQUEUE_WINDOW + 1, none) == ENQUEUE_WINDOW
    assert enqueue_next(queue, LOCAL, JOB, ENQUEUE_WINDOW + 1, none) is None
    assert waiting(queue) == list(range(ENQUEUE_WINDOW + 1))


def test_the_next_shard_of_a_job_that_was_retried_is_one_that_is_missing(queue: Queue) -> None:
    missing = range(0, 1_000, 10)
    fill_window(queue, LOCAL, JOB, missing)
    for shard in missing[ENQUEUE_WINDOW:]:
        assert enqueue_next(queue, LOCAL, JOB, 1_000, lambda each: each not in missing) == shard
    assert enqueue_next(queue, LOCAL, JOB, 1_000, lambda each: each not in missing) is None
    assert waiting(queue) == list(missing)


def test_filling_twice_changes_nothing(queue: Queue) -> None:
    fill_window(queue, LOCAL, JOB, range(1_000))
    fill_window(queue, LOCAL, JOB, range(1_000))
    assert waiting(queue) == list(range(ENQUEUE_WINDOW))


def test_a_lost_redis_gets_the_missing_shards_again(queue: Queue) -> None:
    fill_window(queue, LOCAL, JOB, range(5))
    queue.connection.flushall()
    fill_window(queue, LOCAL, JOB, [1, 4])
    assert waiting(queue) == [1, 4]


def test_a_counter_that_is_lost_is_found_again_behind_what_is_finished_and_what_waits(queue: Queue) -> None:
    """As when no gateway looked after the job for so long that it expired; its first four shards ended."""
    fill_window(queue, LOCAL, JOB, range(40))
    for shard in range(4):
        queue.connection.delete(RqJob.key_for(shard_task_id(JOB, shard)))
        queue.connection.lrem(queue.key, 1, shard_task_id(JOB, shard))
        enqueue_next(queue, LOCAL, JOB, 40, none)
    assert waiting(queue) == list(range(4, 20))
    queue.connection.delete(next_shard_key(JOB))
    assert enqueue_next(queue, LOCAL, JOB, 40, lambda shard: shard < 4) == 20


def test_the_counter_expires_some_time_after_its_last_use(queue: Queue) -> None:
    """There is one of every job there ever was, and nobody knows when it is used for the last time."""
    key = next_shard_key(JOB)
    uses: list[Callable[[], object]] = [
        lambda: fill_window(queue, LOCAL, JOB, range(3)),
        lambda: fill_window(queue, LOCAL, JOB, range(1, 3)),
        lambda: enqueue_next(queue, LOCAL, JOB, 3, none),
    ]
    for use in uses:
        use()
        assert UNUSED_SECONDS - 60 < int(queue.connection.ttl(key)) <= UNUSED_SECONDS
        queue.connection.persist(key)


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


def test_a_task_of_which_only_the_name_is_left_is_enqueued_again(queue: Queue) -> None:
    """What a worker that outlives an emptied Redis leaves there when it is killed after all."""
    queue.connection.hset(RqJob.key_for(shard_task_id(JOB, 0)), "last_heartbeat", "2026-01-01T00:00:00Z")
    fill_window(queue, LOCAL, JOB, range(1))
    assert waiting(queue) == [0]


def test_a_try_that_got_further_is_not_held_against_the_task(queue: Queue) -> None:
    fill_window(queue, LOCAL, JOB, range(1))
    task = queue.fetch_job(shard_task_id(JOB, 0))
    assert task is not None
    task.retries_left = 1
    count_anew_after_progress(task)
    assert task.retries_left == 1
    queue.connection.set(progressed_key(task.id), 3)
    count_anew_after_progress(task)
    assert task.retries_left == RETRIES
    assert not queue.connection.exists(progressed_key(task.id)), "the next try has to get further again"


def test_what_a_dead_worker_was_at_is_queued_before_all_else(queue: Queue) -> None:
    fill_window(queue, LOCAL, JOB, range(3))
    task = queue.fetch_job(shard_task_id(JOB, 0))
    assert task is not None
    queue.connection.lrem(queue.key, 1, task.id)
    with queue.connection.pipeline() as pipeline:
        Execution.create(task, 1, pipeline)
        pipeline.execute()
    queue.connection.zadd(queue.started_job_registry.key, dict.fromkeys(at_work(queue), 1))
    look_after(queue)
    assert waiting(queue) == [0, 1, 2]
    assert at_work(queue) == []


def at_work(queue: Queue) -> list[Any]:
    """Tries under way, whose score is when they count as lost."""
    found: Any = queue.connection.zrange(queue.started_job_registry.key, 0, -1)
    return list(found)


def test_a_worker_killed_during_upkeep_holds_it_up_for_seconds(queue: Queue) -> None:
    assert queue.acquire_maintenance_lock()
    assert not queue.acquire_maintenance_lock()
    assert 0 < int(queue.connection.ttl(queue.registry_cleaning_key)) <= LOST_SECONDS
