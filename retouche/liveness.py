"""Whether the queue worker of this container lives: for health checks, as it listens at no port.

Needs the `queue` extra.
"""

import socket
from datetime import UTC, datetime, timedelta

from redis import Redis
from redis.exceptions import ConnectionError, TimeoutError
from rq import Worker

_QUIET = timedelta(seconds=90)  # a live worker tells Redis of itself every few seconds


def worker_lives(redis_url: str, host: str | None = None) -> bool:
    """Has a worker of `host` (this one) told Redis of itself lately?

    True where Redis cannot be reached: to start the worker again would not help.
    """
    host = host or socket.gethostname()
    with Redis.from_url(redis_url, socket_connect_timeout=3, socket_timeout=3) as connection:
        try:
            workers = [worker for worker in Worker.all(connection) if worker.hostname == host]
        except (ConnectionError, TimeoutError):
            return True
    seen = [worker.last_heartbeat for worker in workers if worker.last_heartbeat]
    return any(datetime.now(UTC) - moment.replace(tzinfo=UTC) < _QUIET for moment in seen)
