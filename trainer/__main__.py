"""`python -m trainer`: takes training runs from the one queue `train`; with `--once` one, if one waits."""

import argparse
import os
import signal

from prometheus_client import CollectorRegistry
from redis import Redis

from retouche import logs
from retouche.coordination import TRAIN_FUNCTION
from retouche.meters import export
from retouche.metrics import TrainerMetrics
from retouche.queue import train_queue
from retouche.queue_worker import OneFunctionWorker, work
from trainer.settings import Settings


class RunWorker(OneFunctionWorker):
    """Carries out training runs."""

    function = TRAIN_FUNCTION

    def handle_warm_shutdown_request(self) -> None:
        """Have the run stop at a checkpoint: it may take days, and goes on from there elsewhere."""
        super().handle_warm_shutdown_request()  # type: ignore[no-untyped-call]
        if self.horse_pid:
            os.kill(self.horse_pid, signal.SIGTERM)


def main(once: bool) -> None:
    """Work until told to stop, or for one run."""
    logs.configure()
    settings = Settings()
    if settings.metrics_port is not None:
        registry = CollectorRegistry()
        export(TrainerMetrics(registry), registry, settings.host, settings.metrics_port)
    with Redis.from_url(settings.redis_url) as connection:
        work(RunWorker, train_queue(connection), once=once)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m trainer")
    parser.add_argument("--once", action="store_true", help="take one run, if one waits, and end")
    main(parser.parse_args().once)
