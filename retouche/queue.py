"""Shards and training runs on their RQ queues: each enqueued once, under its own name.

A window of a job's shards is enqueued at a time, and tenants take turns.

Needs the `queue` extra; the gateway and the workers import it. A shard is enqueued again by whoever finds it
missing, so nothing here has to survive Redis: see `fill_window`.
"""

from collections.abc import Iterable
from typing import Literal

from redis import Redis
from rq import Queue, Retry
from rq.exceptions import DuplicateJobError
from rq.job import JobStatus
from rq.serializers import JSONSerializer

from retouche.coordination import (
    CURATE_FUNCTION,
    CURATE_QUEUE,
    ENQUEUE_WINDOW,
    TRAIN_FUNCTION,
    TRAIN_QUEUE,
    next_shard_key,
    shard_task_id,
)
from retouche.tasks import PlainJob
from retouche.turns import meta_of, take_turn

SHARD_TIMEOUT_SECONDS = 6 * 3600
RUN_TIMEOUT_SECONDS = 30 * 24 * 3600
RETRIES = 5  # after a worker that died; what fails inside a shard is the worker's to retry
FAILURE_TTL_SECONDS = 7 * 24 * 3600

Enqueued = Literal["enqueued", "waiting", "given-up"]


def curate_queue(connection: Redis) -> Queue:
    """The queue of shards. Raises nothing: the connection is made at first use."""
    return Queue(CURATE_QUEUE, connection=connection, job_class=PlainJob, serializer=JSONSerializer)


def enqueue_shard(queue: Queue, tenant: str, job_id: str, shard: int) -> Enqueued:
    """Enqueue a shard unless it is queued or at work ("waiting") or RQ has given it up ("given-up")."""
    name = shard_task_id(job_id, shard)
    return _enqueue(queue, tenant, CURATE_FUNCTION, (job_id, shard), name, SHARD_TIMEOUT_SECONDS)


def train_queue(connection: Redis) -> Queue:
    """The queue of training runs."""
    return Queue(TRAIN_QUEUE, connection=connection, job_class=PlainJob, serializer=JSONSerializer)


def enqueue_run(queue: Queue, tenant: str, run_id: str) -> Enqueued:
    """Enqueue a training run unless it is queued or at work, or RQ has given it up."""
    return _enqueue(queue, tenant, TRAIN_FUNCTION, (run_id,), run_id, RUN_TIMEOUT_SECONDS)


def forget_run(queue: Queue, run_id: str) -> None:
    """Let a run that RQ has given up be enqueued again."""
    _forget_failed(queue, run_id)


def _enqueue(
    queue: Queue, tenant: str, function: str, args: tuple[str | int, ...], name: str, timeout: int
) -> Enqueued:
    try:
        queue.enqueue_call(
            function,
            args=args,
            job_id=name,
            timeout=timeout,
            result_ttl=0,
            failure_ttl=FAILURE_TTL_SECONDS,
            retry=Retry(max=RETRIES),
            meta=meta_of(tenant),
            unique=True,
        )
        take_turn(queue, name)
    except DuplicateJobError:
        task = queue.fetch_job(name)
        failed = task is not None and task.get_status() == JobStatus.FAILED
        return "given-up" if failed else "waiting"
    return "enqueued"


def _forget_failed(queue: Queue, name: str) -> None:
    task = queue.fetch_job(name)
    if task is not None and task.get_status() == JobStatus.FAILED:
        task.delete()


def enqueue_next(queue: Queue, tenant: str, job_id: str, shards: int) -> int | None:
    """Enqueue the next of a job's `shards`, called as one of them ends; None if all have been."""
    shard = int(queue.connection.incr(next_shard_key(job_id))) - 1
    if shard >= shards:
        return None
    enqueue_shard(queue, tenant, job_id, shard)
    return shard


def fill_window(queue: Queue, tenant: str, job_id: str, missing: Iterable[int]) -> list[int]:
    """See to it that the first ENQUEUE_WINDOW of a job's missing shards are queued or at work.

    `missing` is what the store says, ascending, without those given up. Shards below the counter were
    enqueued once: whichever of them RQ has lost is enqueued again. Running it twice, or in two processes,
    changes nothing.
    Returns those that RQ has given up (their worker died again and again).
    """
    key = next_shard_key(job_id)
    following = int(queue.connection.get(key) or 0)
    given_up, in_flight = [], 0
    for shard in missing:
        if shard >= following:
            if in_flight >= ENQUEUE_WINDOW:
                break
            following = shard + 1
            queue.connection.set(key, following)
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
