"""How long each route takes to answer."""

import time

from prometheus_client import Histogram
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from retouche.metrics import ServiceMetrics


class RequestTimer:
    """Middleware: how long each route took to answer, and with which status."""

    def __init__(self, app: ASGIApp, metrics: ServiceMetrics) -> None:
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
