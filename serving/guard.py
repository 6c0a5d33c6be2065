"""Who may call: decided before anything of a request's body is read."""

import hmac
from collections.abc import Awaitable, Callable

from starlette.requests import HTTPConnection
from starlette.types import ASGIApp, Receive, Scope, Send

from retouche.errors import RetoucheError, Unauthorized
from serving import problems

Admit = Callable[[HTTPConnection], Awaitable[None]]

# What says nothing of anybody's work: for probes, Prometheus and people who read the documentation.
OPEN_PATHS = frozenset({"/healthz", "/readyz", "/metrics", "/docs", "/redoc", "/openapi.json"})


class Guard:
    """Middleware: what `admit` raises is the answer, whatever the path, the open ones aside."""

    def __init__(self, app: ASGIApp, admit: Admit) -> None:
        self.app = app
        self.admit = admit

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and scope["path"] not in OPEN_PATHS:
            try:
                await self.admit(HTTPConnection(scope))
            except RetoucheError as error:
                await problems.answer(error)(scope, receive, send)
                return
        await self.app(scope, receive, send)


def bearer(connection: HTTPConnection) -> str:
    """What stands behind `Authorization: Bearer`; empty if that is not there."""
    scheme, _, given = connection.headers.get("authorization", "").partition(" ")
    return given.strip() if scheme.lower() == "bearer" else ""


def only_with(token: str) -> Admit:
    """Admit those who bear the token that the processes of one system share."""

    async def admit(connection: HTTPConnection) -> None:
        if not hmac.compare_digest(bearer(connection).encode(), token.encode()):
            raise Unauthorized(
                "this service answers its own system alone, by RETOUCHE_INTERNAL_TOKEN; call the gateway"
            )

    return admit
