"""Prometheus metrics of one process."""

import time

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from starlette.types import ASGIApp, Message, Receive, Scope, Send

_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120)


class Metrics:
    """The meters, in a registry of their own so that several apps can live in one process."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.requests = Histogram(
            "retouche_request_seconds",
            "Time to answer a request",
            ["route", "status"],
            buckets=_SECONDS,
            registry=self.registry,
        )
        self.batch_size = Histogram(
            "retouche_batch_size",
            "Items in one model call",
            buckets=(1, 2, 4, 8, 16, 32, 64),
            registry=self.registry,
        )
        self.model_seconds = Counter(
            "retouche_model_seconds_total", "Time the model was at work", registry=self.registry
        )
        self.waiting = Gauge("retouche_waiting_items", "Items waiting for the model", registry=self.registry)
        self.abandoned = Counter(
            "retouche_abandoned_items_total", "Items never run, their caller gone", registry=self.registry
        )
        self.memo = Counter(
            "retouche_memo_answers_total", "Answers by memo outcome", ["outcome"], registry=self.registry
        )


class RequestTimer:
    """Middleware: how long each route took to answer, and with which status."""

    def __init__(self, app: ASGIApp, metrics: Metrics) -> None:
        self.app = app
        self.metrics = metrics
        self._labelled: dict[tuple[str, int], Histogram] = {}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        began, status = time.perf_counter(), 500

        async def noted(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            await self.app(scope, receive, noted)
        finally:
            self._meter(scope, status).observe(time.perf_counter() - began)

    def _meter(self, scope: Scope, status: int) -> Histogram:
        """The meter of a route and status; looking one up by its labels takes longer than a reading."""
        route = getattr(scope.get("route"), "path", "unknown")
        if (meter := self._labelled.get((route, status))) is None:
            meter = self.metrics.requests.labels(route, str(status))
            self._labelled[route, status] = meter
        return meter
