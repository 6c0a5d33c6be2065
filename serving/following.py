"""Whoever calls says what the call is about: logs and spans of the request say so too."""

from starlette.types import ASGIApp, Receive, Scope, Send

from retouche.about import about, read
from retouche.tracing import span


class Following:
    """Middleware: reads W3C `traceparent` and `baggage`."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        known = _known(scope) if scope["type"] == "http" else {}
        if not known:
            await self.app(scope, receive, send)
            return
        with about(**known), span(f"{scope['method']} {scope['path']}"):
            await self.app(scope, receive, send)


def _known(scope: Scope) -> dict[str, str]:
    sent = {name: value.decode("latin-1") for name, value in scope["headers"] if name in _HEADERS}
    return read(sent.get(b"traceparent", ""), sent.get(b"baggage", "")) if sent else {}


_HEADERS = (b"traceparent", b"baggage")
