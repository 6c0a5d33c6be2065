"""`python -m worker`: takes shards from the one queue `curate`.

One queue only: with several, RQ takes jobs in a way that loses one when the worker is killed at that moment.
"""

import logging

from redis import Redis
from rq import Worker
from rq.job import Job
from rq.queue import Queue
from rq.serializers import JSONSerializer

from retouche.coordination import CURATE_FUNCTION
from retouche.queue import curate_queue
from retouche.tasks import PlainJob, refusal
from worker.settings import Settings

# RQ's defaults take minutes to notice a dead worker.
NOTICE_SECONDS = 20
MAINTENANCE_SECONDS = 5


class ShardWorker(Worker):
    """Runs nothing but shards: whoever can write to Redis could otherwise name any function."""

    def execute_job(self, job: Job, queue: Queue) -> None:
        if (problem := refusal(job, CURATE_FUNCTION)) is not None:
            logging.getLogger("retouche.worker").error("refused %s: %s", job.id, problem)
            job.cancel()
            return
        super().execute_job(job, queue)


def main() -> None:
    """Work until told to stop; a shard under way is finished first."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s %(message)s")
    logging.getLogger("httpx2").setLevel(logging.WARNING)  # or it tells of every call
    settings = Settings()
    with Redis.from_url(settings.redis_url) as connection:
        worker = ShardWorker(
            [curate_queue(connection)],
            connection=connection,
            job_class=PlainJob,
            serializer=JSONSerializer,
            worker_ttl=NOTICE_SECONDS,
            maintenance_interval=MAINTENANCE_SECONDS,
            job_monitoring_interval=NOTICE_SECONDS // 4,
        )
        worker.work(logging_level="WARNING")


if __name__ == "__main__":
    main()
