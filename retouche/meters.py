"""Metrics of a worker, whose work is done in processes that it forks: those tell it, and it exports.

A message is one short line through a pipe, which the kernel writes whole. One that cannot be told, since the
pipe is full or the worker gone, is dropped: work never waits for its meters.
"""

import json
import os
import threading
from contextlib import suppress

from prometheus_client import CollectorRegistry, Counter, Histogram, start_http_server

from retouche.metrics import CurationMetrics, TrainerMetrics

_PIPES: list[int] = []  # where this process tells; a process that is forked from it has it too


def export(
    metrics: CurationMetrics | TrainerMetrics, registry: CollectorRegistry, host: str, port: int
) -> None:
    """Answer Prometheus, with what processes forked from now on tell."""
    server, _ = start_http_server(port, host, registry)
    os.register_at_fork(after_in_child=server.socket.close)  # or a work-horse left alone would keep the port
    listening, telling = os.pipe()
    threading.Thread(target=_listen, args=(metrics, listening), name="meters", daemon=True).start()
    os.set_blocking(telling, False)
    _PIPES[:] = [telling]


def tell(name: str, value: float, *labels: str) -> None:
    """Count, observe or set the meter `name`; nothing where nobody listens."""
    for pipe in _PIPES:
        with suppress(OSError):
            os.write(pipe, json.dumps([name, labels, value]).encode() + b"\n")


def _listen(metrics: CurationMetrics | TrainerMetrics, listening: int) -> None:
    with os.fdopen(listening) as lines:
        for line in lines:
            name, labels, value = json.loads(line)
            meter = getattr(metrics, name)
            meter = meter.labels(*labels) if labels else meter
            if isinstance(meter, Counter):
                meter.inc(value)
            elif isinstance(meter, Histogram):
                meter.observe(value)
            else:
                meter.set(value)
