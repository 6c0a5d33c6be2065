"""`python -m trainer`: takes training runs from the one queue `train`; with `--once` one, if one waits."""

import argparse
import logging

from redis import Redis
from rq import Worker
from rq.job import Job
from rq.queue import Queue
from rq.serializers import JSONSerializer

from retouche.coordination import TRAIN_FUNCTION
from retouche.queue import train_queue
from retouche.tasks import PlainJob, refusal
from trainer.settings import Settings

# RQ's defaults take minutes to notice a dead worker.
NOTICE_SECONDS = 20
MAINTENANCE_SECONDS = 5


class RunWorker(Worker):
    """Runs nothing but training runs: whoever can write to Redis could otherwise name any function."""

    def execute_job(self, job: Job, queue: Queue) -> None:
        if (problem := refusal(job, TRAIN_FUNCTION)) is not None:
            logging.getLogger("retouche.trainer").error("refused %s: %s", job.id, problem)
            job.cancel()
            return
        super().execute_job(job, queue)


def main(once: bool) -> None:
    """Work until told to stop, or for one run."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s %(message)s")
    with Redis.from_url(Settings().redis_url) as connection:
        worker = RunWorker(
            [train_queue(connection)],
            connection=connection,
            job_class=PlainJob,
            serializer=JSONSerializer,
            worker_ttl=NOTICE_SECONDS,
            maintenance_interval=MAINTENANCE_SECONDS,
            job_monitoring_interval=NOTICE_SECONDS // 4,
        )
        worker.work(logging_level="WARNING", burst=once, max_jobs=1 if once else None)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m trainer")
    parser.add_argument("--once", action="store_true", help="take one run, if one waits, and end")
    main(parser.parse_args().once)
