"""The RQ worker that curation and training share: one queue, one function, the dead noticed within seconds.

One queue only: with several, RQ takes jobs in a way that loses one when the worker is killed at that moment.
A worker that dies is noticed LOST_SECONDS after its last sign of life, by the gateway or by whichever worker
next looks after the queue. One that was only held up goes on beside the one that took its place: what both do
is done once, since everything is committed where nothing was.
"""

import logging
import time
from typing import ClassVar

from redis.client import Pipeline
from redis.exceptions import ResponseError
from rq import Worker, worker_registration
from rq.job import Job
from rq.queue import Queue
from rq.serializers import JSONSerializer

from retouche.queue import LOST_SECONDS, count_anew_after_progress
from retouche.tasks import refusal

_SIGN_OF_LIFE_SECONDS = 2
_LOOK_AFTER_SECONDS = 2
_REFUSED_SECONDS = 1
_WORKER_TTL_SECONDS = 17  # RQ waits 15 s less than this for a job before it looks after the queue again

_log = logging.getLogger("retouche.queue")


class OneFunctionWorker(Worker):
    """Runs nothing but `function`: whoever can write to Redis could otherwise name any."""

    function: ClassVar[str]

    def register_birth(self) -> None:
        """RQ's, once Redis takes it: one whose disk is full refuses every write, and that may pass."""
        while True:
            try:
                super().register_birth()  # type: ignore[no-untyped-call]
            except ResponseError as error:
                _log.warning("Redis refuses this worker, which tries again: %s", error)
                time.sleep(_REFUSED_SECONDS)
            else:
                return

    def execute_job(self, job: Job, queue: Queue) -> None:
        if (problem := refusal(job, self.function)) is not None:
            _log.error("refused %s: %s", job.id, problem)
            job.cancel()
            return
        super().execute_job(job, queue)

    def get_heartbeat_ttl(self, job: Job) -> int:  # noqa: ARG002 (RQ's signature)
        return LOST_SECONDS

    def heartbeat(self, timeout: int | None = None, pipeline: Pipeline | None = None) -> None:
        """RQ's sign of life; a worker that an emptied Redis has forgotten makes itself known again."""
        super().heartbeat(timeout, pipeline)
        if pipeline is None:
            self._be_known()

    def maintain_heartbeats(self, job: Job) -> None:
        super().maintain_heartbeats(job)
        self._be_known()

    def _be_known(self) -> None:
        if not self.connection.sismember(self.redis_workers_keys, self.key):
            self.connection.hset(self.key, mapping=self.serialize())
            worker_registration.register(self)


def work(kind: type[OneFunctionWorker], queue: Queue, *, once: bool = False) -> None:
    """Work until told to stop, what is under way being finished first; or `once`, if something waits."""
    worker = kind(
        [queue],
        connection=queue.connection,
        queue_class=type(queue),
        job_class=queue.job_class,
        serializer=JSONSerializer,
        worker_ttl=_WORKER_TTL_SECONDS,
        maintenance_interval=_LOOK_AFTER_SECONDS,
        job_monitoring_interval=_SIGN_OF_LIFE_SECONDS,
        exception_handlers=[count_anew_after_progress],
        work_horse_killed_handler=count_anew_after_progress,
    )
    worker.work(logging_level="WARNING", burst=once, max_jobs=1 if once else None)
