"""The window of shards that waits for workers is shared by the tenants, one of each in turn."""

import pytest
from redis import Redis
from rq import Queue

from retouche.coordination import ENQUEUE_WINDOW
from retouche.queue import curate_queue, enqueue_next, enqueue_run, fill_window, train_queue

HUGE, SMALL, THIRD = "job-aaaaaaaaaaaaaaaa", "job-bbbbbbbbbbbbbbbb", "job-cccccccccccccccc"
SHARDS = 15_625  # a million prompts


@pytest.fixture
def queue(redis_url: str) -> Queue:
    return curate_queue(Redis.from_url(redis_url))


def waiting(queue: Queue) -> list[tuple[str, int]]:
    """Job and shard, in the order in which workers take them."""
    return [(task.rsplit("_", 1)[0], int(task.rsplit("_", 1)[1])) for task in queue.job_ids]


def take(queue: Queue) -> tuple[str, int]:
    """What a worker does: the first of the queue."""
    first = waiting(queue)[0]
    queue.pop_job_id()
    return first


def test_a_small_job_after_a_huge_one_goes_on_at_once(queue: Queue) -> None:
    fill_window(queue, "acme", HUGE, range(SHARDS))
    fill_window(queue, "other", SMALL, range(3))
    order = [take(queue) for _ in range(6)]
    assert order == [(HUGE, 0), (SMALL, 0), (HUGE, 1), (SMALL, 1), (HUGE, 2), (SMALL, 2)]


def test_however_many_jobs_a_tenant_has_it_gets_one_turn(queue: Queue) -> None:
    for number in range(8):
        fill_window(queue, "acme", f"job-{number:016x}", range(SHARDS))
    fill_window(queue, "other", SMALL, range(2))
    assert [job for job, _ in waiting(queue)][1:4:2] == [SMALL, SMALL]
    assert len(waiting(queue)) == 8 * ENQUEUE_WINDOW + 2


def test_tenants_with_work_without_end_get_equally_much(queue: Queue) -> None:
    tenants = {HUGE: "acme", SMALL: "other", THIRD: "third"}
    for job, tenant in tenants.items():
        fill_window(queue, tenant, job, range(SHARDS))
    taken = []
    for _ in range(30):
        job, _shard = take(queue)
        taken.append(job)
        enqueue_next(queue, tenants[job], job, SHARDS, lambda _: False)
    assert all(sorted(taken[begin : begin + 3]) == sorted(tenants) for begin in range(0, 30, 3))


def test_a_tenant_alone_has_its_shards_in_order(queue: Queue) -> None:
    fill_window(queue, "acme", HUGE, range(4))
    fill_window(queue, "acme", SMALL, range(2))
    assert waiting(queue) == [*((HUGE, shard) for shard in range(4)), (SMALL, 0), (SMALL, 1)]


def test_training_runs_take_turns_too(redis_url: str) -> None:
    queue = train_queue(Redis.from_url(redis_url))
    for number in range(5):
        enqueue_run(queue, "acme", f"run-{number:016x}")
    enqueue_run(queue, "other", "run-ffffffffffffffff")
    assert queue.job_ids.index("run-ffffffffffffffff") == 1
