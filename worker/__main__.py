"""`python -m worker`: takes shards from the queue `curate`."""

from prometheus_client import CollectorRegistry
from redis import Redis

from retouche import logs, tracing
from retouche.coordination import CURATE_FUNCTION
from retouche.meters import export
from retouche.metrics import CurationMetrics
from retouche.queue import curate_queue
from retouche.queue_worker import OneFunctionWorker, work
from worker.settings import Settings


class ShardWorker(OneFunctionWorker):
    """Curates shards."""

    function = CURATE_FUNCTION


def main() -> None:
    """Work until told to stop; a shard under way is finished first."""
    logs.configure()
    tracing.configure("worker")
    settings = Settings()
    if settings.metrics_port is not None:
        registry = CollectorRegistry()
        export(CurationMetrics(registry), registry, settings.host, settings.metrics_port)
    with Redis.from_url(settings.redis_url) as connection:
        work(ShardWorker, curate_queue(connection))


if __name__ == "__main__":
    main()
