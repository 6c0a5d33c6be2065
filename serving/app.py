"""The application every service is: routes, problems, health, metrics, models loading in the background."""

import asyncio
import gc
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from functools import partial
from typing import Any, TypeVar

from fastapi import APIRouter, FastAPI, Request, Response
from fastapi.telemetry import TelemetryConfig
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from starlette.requests import ClientDisconnect

from retouche import __version__
from retouche.contract.services import Health, Readiness
from retouche.errors import Problem, Unavailable, all_errors
from retouche.metrics import ServiceMetrics
from serving import problems
from serving.following import Following
from serving.guard import Admit, Guard, only_with
from serving.isolation import Isolation
from serving.metrics import RequestTimer
from serving.settings import ServiceSettings

MAX_BODY_BYTES = 64_000_000
_UNWATCHED_SECONDS = 0.02
# retouche.tracing and the metrics here have the spans and the figures; nobody should get both.
_NONE_OF_FASTAPI: TelemetryConfig = {"tracing": False, "metrics": False, "logs": False}

AnswerT = TypeVar("AnswerT")
SettingsT = TypeVar("SettingsT", bound=ServiceSettings)

_log = logging.getLogger("retouche.serving")

Loaded = tuple[Readiness, Callable[[], Awaitable[None]]]  # what is ready, and how to shut it down
Load = Callable[[FastAPI], Awaitable[Loaded]]


def create_app(
    title: str,
    router: APIRouter,
    load: Load,
    *,
    max_body_bytes: int = MAX_BODY_BYTES,
    streamed_body_bytes: Mapping[str, int] = {},
    admit: Admit | None = None,
    isolating: bool = False,
) -> FastAPI:
    """An application that answers `/healthz` at once and `/readyz` when `load` has come back.

    `streamed_body_bytes`: limits for the paths that read their body as a stream.
    `admit` raises for who may not call; none: everybody may.
    `isolating`: callers may ask for a request to run alone.
    `load` keeps what the routes need in `app.state`; if it fails, `/readyz` says why.
    """
    app = _Application(
        title=title,
        version=__version__,
        lifespan=_lifespan(load),
        responses=_PROBLEMS,
        telemetry=_NONE_OF_FASTAPI,
    )
    app.state.metrics = ServiceMetrics()
    app.state.stopping = False
    app.state.readiness = Unavailable(
        "the models are still loading; retry in a moment", retry_after_seconds=2
    )
    problems.install(app)
    if isolating:
        app.add_middleware(Isolation)
    app.add_middleware(problems.BodyLimit, most=max_body_bytes, streamed=streamed_body_bytes)
    if admit is not None:
        app.add_middleware(Guard, admit=admit)
    app.add_middleware(Following)
    app.add_middleware(RequestTimer, metrics=app.state.metrics)
    app.include_router(router)  # before the rest: routes are tried in turn
    app.include_router(_health())
    return app


class _Application(FastAPI):
    """Documents problems as what they are sent as; FastAPI takes them for JSON of the route's own."""

    def openapi(self) -> dict[str, Any]:
        if self.openapi_schema is None:
            for operations in super().openapi()["paths"].values():
                for operation in operations.values():
                    for status in _PROBLEMS:
                        response = operation["responses"][status]
                        (schema,) = response["content"].values()
                        response["content"] = {problems.MEDIA_TYPE: schema}
        return super().openapi()


def create_service(
    title: str,
    router: APIRouter,
    load: Callable[[SettingsT, FastAPI], Awaitable[Loaded]],
    settings: SettingsT,
) -> FastAPI:
    """The application of a service that answers its own system alone, where the settings have a token."""
    token = settings.internal_token
    admit = only_with(token.get_secret_value()) if token else None
    return create_app(title, router, partial(load, settings), admit=admit, isolating=True)


def require_ready(request: Request) -> Readiness:
    """A dependency of every route that needs the models: Unavailable until they are loaded."""
    readiness = request.app.state.readiness
    if isinstance(readiness, Unavailable):
        raise readiness
    assert isinstance(readiness, Readiness)
    return readiness


async def while_connected(request: Request, answer: Awaitable[AnswerT]) -> AnswerT:
    """Wait for `answer`, but give it up when the client has gone: nobody would read it.

    The request's body must have been read.
    """
    watch = _Watch(request)
    try:
        return await answer
    except asyncio.CancelledError:
        if watch.client_gone:
            raise ClientDisconnect from None
        raise
    finally:
        watch.end()


class _Watch:
    """Cancels the task that made it when the client goes.

    It looks only after a moment: most answers from the memo need no task of their own beside them.
    """

    def __init__(self, request: Request) -> None:
        self._request = request
        self._answering = asyncio.current_task()
        self._looking: asyncio.Task[None] | None = None
        self._timer = asyncio.get_running_loop().call_later(_UNWATCHED_SECONDS, self._begin)
        self.client_gone = False

    def end(self) -> None:
        self._timer.cancel()
        if self._looking is not None:
            self._looking.cancel()

    def _begin(self) -> None:
        self._looking = asyncio.create_task(self._look())

    async def _look(self) -> None:
        while (await self._request.receive())["type"] != "http.disconnect":
            continue
        if self._answering is not None:
            self.client_gone = True
            self._answering.cancel()


def _lifespan(load: Load) -> Callable[[FastAPI], AbstractAsyncContextManager[None]]:
    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        loading = asyncio.create_task(_load(app, load))
        yield
        loading.cancel()
        (shutdown,) = await asyncio.gather(loading, return_exceptions=True)
        if callable(shutdown):
            await shutdown()

    return lifespan


async def _load(app: FastAPI, load: Load) -> Callable[[], Awaitable[None]] | None:
    (outcome,) = await asyncio.gather(load(app), return_exceptions=True)
    if isinstance(outcome, BaseException):
        _log.error("the models could not be loaded", exc_info=outcome)
        app.state.readiness = Unavailable(
            f"the models could not be loaded: {outcome}", retry_after_seconds=60
        )
        return None
    gc.collect()
    gc.freeze()  # models never go: else every full collection walks their objects, while requests wait
    app.state.readiness, shutdown = outcome
    return shutdown


def _health() -> APIRouter:
    router = APIRouter(tags=["process"])

    @router.get("/healthz")
    async def healthz() -> Health:
        """The process is alive."""
        return Health()

    @router.get("/readyz")
    async def readyz(request: Request) -> Readiness:
        """The models are loaded; 503 until then."""
        return require_ready(request)

    @router.get("/metrics", response_class=Response)
    async def metrics(request: Request) -> Response:
        """Prometheus metrics."""
        return Response(generate_latest(request.app.state.metrics.registry), media_type=CONTENT_TYPE_LATEST)

    return router


def _codes(hundreds: int) -> str:
    """What a problem of these statuses may be."""
    found = sorted((error.status, error.code) for error in all_errors() if error.status // 100 == hundreds)
    return ", ".join(f"{status} {code}" for status, code in found)


_PROBLEMS: dict[int | str, dict[str, object]] = {
    "4XX": {"model": Problem, "description": f"The request cannot be fulfilled as it is: {_codes(4)}"},
    "5XX": {"model": Problem, "description": f"The service cannot fulfil it now: {_codes(5)}"},
}
