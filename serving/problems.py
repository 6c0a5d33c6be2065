"""Every failure of a request as application/problem+json (RFC 9457)."""

import logging
import math
import reprlib
from collections.abc import Mapping

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from retouche.errors import (
    BadRequest,
    FieldProblem,
    InvalidPayload,
    NotFound,
    PayloadTooLarge,
    Problem,
    RetoucheError,
    Unauthorized,
)

MEDIA_TYPE = "application/problem+json"
_SHOWN_CHARACTERS = 80
_CLIENT_GONE = 499  # nobody reads this answer; the metrics count it

_log = logging.getLogger("retouche.serving")


def install(app: FastAPI) -> None:
    """Answer every error of `app` as a problem."""
    app.add_exception_handler(RetoucheError, _ours)
    app.add_exception_handler(RequestValidationError, _payload)
    app.add_exception_handler(HTTPException, _framework)
    app.add_exception_handler(ClientDisconnect, _gone)
    app.add_exception_handler(Exception, _unexpected)


def answer(error: RetoucheError) -> Response:
    """The response for an error, with Retry-After where it says when to come back."""
    headers = {"www-authenticate": 'Bearer realm="retouche"'} if isinstance(error, Unauthorized) else {}
    if error.retryable:
        headers["retry-after"] = str(max(1, math.ceil(error.retry_after_seconds or 1)))
    return _respond(error.problem(), headers)


def _respond(problem: Problem, headers: dict[str, str] | None = None) -> Response:
    return Response(problem.model_dump_json(), problem.status, headers, media_type=MEDIA_TYPE)


async def _ours(_: Request, error: Exception) -> Response:
    assert isinstance(error, RetoucheError)
    if error.status == 500:
        _log.error("%s: %s", error.code, error.detail, exc_info=error)
    return answer(error)


async def _payload(_: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    if any(entry["type"] == "json_invalid" for entry in error.errors()):
        reason = error.errors()[0].get("ctx", {}).get("error", "")
        return answer(BadRequest(f"the body is not JSON: {reason}"))
    fields = [
        FieldProblem(field=".".join(str(part) for part in entry["loc"][1:]) or "body", problem=_said(entry))
        for entry in error.errors()[:20]
    ]
    first = fields[0]
    return answer(InvalidPayload(f"{first.field}: {first.problem}", fields=fields))


def _said(entry: dict[str, object]) -> str:
    """Pydantic's message with the value, shortened: it may be the whole body."""
    value = entry.get("input")
    if isinstance(value, str) and len(value) > _SHOWN_CHARACTERS:
        shown = f"{value[:_SHOWN_CHARACTERS]!r}... ({len(value):,} characters)"
    else:
        shown = reprlib.repr(value) if isinstance(value, dict | list) else repr(value)
    return f"{entry['msg']}, not {shown}"


async def _framework(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    if isinstance(error.__cause__, RetoucheError):  # raised while FastAPI read the body
        return answer(error.__cause__)
    if error.status_code == 404:
        return answer(NotFound(f"there is no {request.url.path} here; /docs lists what there is"))
    problem = BadRequest(f"{request.method} {request.url.path}: {error.detail}").problem()
    return _respond(problem.model_copy(update={"status": error.status_code}), dict(error.headers or {}))


async def _gone(request: Request, _: Exception) -> Response:
    return await _framework(request, HTTPException(_CLIENT_GONE, "the client has gone"))


async def _unexpected(request: Request, error: Exception) -> Response:
    _log.error("%s %s failed", request.method, request.url.path, exc_info=error)
    return answer(RetoucheError("something broke in this service; its log has the traceback"))


class BodyLimit:
    """Refuse request bodies beyond `most` bytes, by what they announce or by what arrives.

    FastAPI's own limit answers in plain text, whatever handlers there are.

    `streamed`: other limits for the paths whose bodies are read as a stream.
    """

    def __init__(self, app: ASGIApp, most: int, streamed: Mapping[str, int]) -> None:
        self.app = app
        self.most = most
        self.streamed = streamed

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        most = self.streamed.get(scope["path"], self.most)
        for name, value in scope["headers"]:
            if name == b"content-length" and value.isdigit() and int(value) <= most:
                await self.app(scope, receive, send)  # the server lets no more than that through
                return
        error = PayloadTooLarge(f"a request may have {most:,} bytes; send less, or in parts")
        if any(name == b"content-length" for name, _ in scope["headers"]):
            await answer(error)(scope, receive, send)
            return
        arrived = 0

        async def counted() -> Message:
            nonlocal arrived
            message = await receive()
            arrived += len(message.get("body", b""))
            if arrived > most:
                raise error
            return message

        await self.app(scope, counted, send)
