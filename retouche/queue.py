"""Shards and training runs on their RQ queues: each enqueued once, under its own name.

A window of a job's shards is enqueued at a time, and tenants take turns.

Needs the `queue` extra; the gateway and the workers import it. A shard is enqueued again by whoever finds it
missing, so nothing here has to survive Redis: see `fill_window`.
"""

from collections.abc import Callable, Iterable
from contextlib import suppress
from datetime import timedelta
from typing import Literal

from redis import Redis
from rq import Queue, Retry
from rq.exceptions import DuplicateJobError
from rq.intermediate_queue import IntermediateQueue
from rq.job import Job as RqJob
from rq.job import JobStatus
from rq.registry import clean_registries
from rq.serializers import JSONSerializer
from rq.utils import now

from retouche.coordination import (
    CURATE_FUNCTION,
    CURATE_QUEUE,
    ENQUEUE_WINDOW,
    TRAIN_FUNCTION,
    TRAIN_QUEUE,
    UNUSED_SECONDS,
    next_shard_key,
    progressed_key,
    shard_task_id,
)
from retouche.tasks import PlainJob
from retouche.turns import meta_of, take_turn

SHARD_TIMEOUT_SECONDS = 6 * 3600
RUN_TIMEOUT_SECONDS = 30 * 24 * 3600
RETRIES = 5  # without progress, after a worker that died; what fails inside a shard is the worker's to retry
RESULT_TTL_SECONDS = 1  # with 0, RQ 2.12 fails what has succeeded if an earlier try of it lost its worker
LOST_SECONDS = 8  # without a sign of life: the worker, or what it held, is lost
FAILURE_TTL_SECONDS = 7 * 24 * 3600

Enqueued = Literal["enqueued", "waiting", "given-up"]


class TakenQueue(IntermediateQueue):
    """What was taken from the queue by a worker that died before it said so; RQ lets it lie for a minute."""

    def should_be_cleaned_up(self, job_id: str) -> bool:
        seen = self.get_first_seen(job_id)
        return seen is not None and now() - seen > timedelta(seconds=LOST_SECONDS)


class NamedQueue(Queue):
    """A queue whose upkeep a dead worker holds up for seconds, not RQ's 15 minutes."""

    def acquire_maintenance_lock(self) -> bool:
        return bool(self.connection.set(self.registry_cleaning_key, 1, nx=True, ex=LOST_SECONDS))

    @property
    def intermediate_queue(self) -> TakenQueue:
        return TakenQueue(self.key, connection=self.connection)


def curate_queue(connection: Redis) -> Queue:
    """The queue of shards. Raises nothing: the connection is made at first use."""
    return NamedQueue(CURATE_QUEUE, connection=connection, job_class=PlainJob, serializer=JSONSerializer)


def enqueue_shard(queue: Queue, tenant: str, job_id: str, shard: int) -> Enqueued:
    """Enqueue a shard unless it is queued or at work ("waiting") or RQ has given it up ("given-up")."""
    name = shard_task_id(job_id, shard)
    return _enqueue(queue, tenant, CURATE_FUNCTION, (job_id, shard), name, SHARD_TIMEOUT_SECONDS)


def train_queue(connection: Redis) -> Queue:
    """The queue of training runs."""
    return NamedQueue(TRAIN_QUEUE, connection=connection, job_class=PlainJob, serializer=JSONSerializer)


def enqueue_run(queue: Queue, tenant: str, run_id: str) -> Enqueued:
    """Enqueue a training run unless it is queued or at work, or RQ has given it up."""
    return _enqueue(queue, tenant, TRAIN_FUNCTION, (run_id,), run_id, RUN_TIMEOUT_SECONDS)


def forget_run(queue: Queue, run_id: str) -> None:
    """Let a run that RQ has given up be enqueued again."""
    _forget_failed(queue, run_id)


def _enqueue(
    queue: Queue, tenant: str, function: str, args: tuple[str | int, ...], name: str, timeout: int
) -> Enqueued:
    def call() -> None:
        queue.enqueue_call(
            function,
            args=args,
            job_id=name,
            timeout=timeout,
            result_ttl=RESULT_TTL_SECONDS,
            failure_ttl=FAILURE_TTL_SECONDS,
            retry=Retry(max=RETRIES, enqueue_at_front=True),
            meta=meta_of(tenant),
            unique=True,
        )
        take_turn(queue, name)

    try:
        call()
    except DuplicateJobError:
        task = queue.fetch_job(name)
        if task is not None and task.get_status(refresh=False) == JobStatus.FAILED:
            return "given-up"
        if _is_somewhere(queue, name):
            return "waiting"
        queue.connection.delete(RqJob.key_for(name))
        with suppress(DuplicateJobError):  # somebody else found it lost at the same time
            call()
    return "enqueued"


def _is_somewhere(queue: Queue, name: str) -> bool:
    """Is the task queued, taken or at work? A worker that outlives an emptied Redis leaves only its name.

    Asked in the order in which a task moves on, so that one on its way is not missed.
    """
    return (
        queue.connection.lpos(queue.key, name) is not None
        or name in queue.intermediate_queue.get_job_ids()
        or name in queue.started_job_registry.get_job_ids(cleanup=False)
    )


def _forget_failed(queue: Queue, name: str) -> None:
    task = queue.fetch_job(name)
    if task is not None and task.get_status(refresh=False) == JobStatus.FAILED:
        queue.connection.zrem(queue.failed_job_registry.key, name)
        queue.connection.delete(task.key)  # RQ's own way trips over tries that lost their worker


def look_after(queue: Queue) -> dict[str, int]:
    """Take from workers that gave no sign of life what they were at; for when every worker is busy.

    Returns how many tasks there are, by state.
    """
    if queue.acquire_maintenance_lock():
        clean_registries(queue, [count_anew_after_progress])
        queue.release_maintenance_lock()
    return {
        "waiting": queue.count,
        "at_work": queue.started_job_registry.get_job_count(cleanup=False),
        "given_up": queue.failed_job_registry.get_job_count(cleanup=False),
    }


def count_anew_after_progress(job: RqJob, *_: object) -> None:
    """RQ's handler of a try that failed: one that got further than those before is not held against it."""
    if job.connection.getdel(progressed_key(job.id)) is not None:
        job.retries_left = RETRIES


def enqueue_next(
    queue: Queue, tenant: str, job_id: str, shards: int, finished: Callable[[int], bool]
) -> int | None:
    """Enqueue the next of a job's `shards` that is not `finished`, as one ends; None if there is none.

    After a retry most may be: each that took a place in the window and ended at once would leave it empty.
    Where the counter is lost it begins anew, and what was given up is tried once more.
    """
    while (shard := _count_on(queue, job_id)) < shards:
        if not finished(shard) and enqueue_shard(queue, tenant, job_id, shard) == "enqueued":
            return shard
    return None


def _count_on(queue: Queue, job_id: str) -> int:
    """The job's next shard, which nobody else gets."""
    with queue.connection.pipeline() as pipeline:
        pipeline.incr(next_shard_key(job_id))
        pipeline.expire(next_shard_key(job_id), UNUSED_SECONDS)
        following, _ = pipeline.execute()
    return int(following) - 1


def fill_window(queue: Queue, tenant: str, job_id: str, missing: Iterable[int]) -> list[int]:
    """See to it that the first ENQUEUE_WINDOW of a job's missing shards are queued or at work.

    `missing` is what the store says, ascending, without those given up. Shards below the counter were
    enqueued once: whichever of them RQ has lost is enqueued again. Running it twice, or in two processes,
    changes nothing.
    Returns those that RQ has given up (their worker died again and again).
    """
    key = next_shard_key(job_id)
    following = int(queue.connection.getex(key, ex=UNUSED_SECONDS) or 0)
    given_up, in_flight = [], 0
    for shard in missing:
        if shard >= following:
            if in_flight >= ENQUEUE_WINDOW:
                break
            following = shard + 1
            queue.connection.set(key, following, ex=UNUSED_SECONDS)
        if enqueue_shard(queue, tenant, job_id, shard) == "given-up":
            given_up.append(shard)
        else:
            in_flight += 1
    return given_up


def forget_shards(queue: Queue, job_id: str, shards: Iterable[int]) -> None:
    """Begin a job again: its counter, and what RQ keeps of those `shards` that it gave up, go."""
    queue.connection.delete(next_shard_key(job_id))
    for shard in shards:
        _forget_failed(queue, shard_task_id(job_id, shard))
