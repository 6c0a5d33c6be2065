"""Failures of HTTP calls as the error tree: what a server answered, and what never reached one."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

import httpx2
from pydantic import TypeAdapter, ValidationError

from retouche.errors import (
    BadRequest,
    Conflict,
    ConnectionBroken,
    DeadlineExceeded,
    Forbidden,
    InvalidPayload,
    ModelFailure,
    NotFound,
    Overloaded,
    PayloadTooLarge,
    Problem,
    RetoucheError,
    ServiceUnreachable,
    StoreFull,
    Unauthorized,
    Unavailable,
    from_problem,
)

ResponseT = TypeVar("ResponseT")

_EXCERPT_CHARACTERS = 200

# For answers that are no problem+json: a proxy's, or those of another program at that address.
_BY_STATUS: dict[int, type[RetoucheError]] = {
    400: BadRequest,
    401: Unauthorized,
    403: Forbidden,
    404: NotFound,
    409: Conflict,
    413: PayloadTooLarge,
    422: InvalidPayload,
    429: Overloaded,
    502: ServiceUnreachable,
    503: Unavailable,
    504: DeadlineExceeded,
    507: StoreFull,
}


def raise_for_problem(response: httpx2.Response, called: str | None = None) -> None:
    """Nothing for a 2xx; else what `error_of` makes of the answer, whose body must have been read."""
    if not response.is_success:
        raise error_of(response, called)


def error_of(response: httpx2.Response, called: str | None = None) -> RetoucheError:
    """The error of an answer that is not a 2xx: the problem it carries, or one made from its status.

    `called`: what answered, where its address is not for whoever is told.
    """
    try:
        return from_problem(Problem.model_validate_json(response.content))
    except ValidationError:
        made = _BY_STATUS.get(response.status_code, RetoucheError)
        excerpt = response.text[:_EXCERPT_CHARACTERS].strip() or "an empty body"
        return made(
            f"{called or response.request.url} answered {response.status_code} without a problem: {excerpt}",
            retry_after_seconds=_retry_after(response),
        )


def validated(content: bytes | str, response_type: type[ResponseT], address: str) -> ResponseT:
    """What `address` answered, as its type.

    Raises:
        ModelFailure: the answer does not keep the contract.
    """
    adapter: TypeAdapter[Any] = TypeAdapter(response_type)
    try:
        answer: ResponseT = adapter.validate_json(content)
    except ValidationError as error:
        raise ModelFailure(
            f"{address} answered out of its contract: {error.errors()[0]['msg']}; "
            "is it a Retouche, of the same version as this one?"
        ) from error
    return answer


@contextmanager
def transport_errors(address: str) -> Iterator[None]:
    """Raise what the call of `address` came to.

    Raises:
        ServiceUnreachable: nothing listens there.
        ConnectionBroken: it took the request and was gone before it had answered.
        DeadlineExceeded: it is late.
    """
    try:
        yield
    except (httpx2.ConnectTimeout, httpx2.ConnectError) as error:
        raise ServiceUnreachable(f"nothing answers at {address} ({error}); is it running?") from error
    except httpx2.TimeoutException as error:
        raise DeadlineExceeded(
            f"{address} did not answer in time; it is overloaded, or the timeout is too short"
        ) from error
    except (httpx2.NetworkError, httpx2.RemoteProtocolError) as error:
        reason = str(error) or type(error).__name__
        raise ConnectionBroken(f"the connection to {address} broke: {reason}") from error
    except (httpx2.TransportError, httpx2.InvalidURL) as error:
        reason = str(error) or type(error).__name__
        raise ServiceUnreachable(f"{address} cannot be called: {reason}") from error


def _retry_after(response: httpx2.Response) -> float | None:
    """Seconds; a date is not worth its parser."""
    value = response.headers.get("retry-after", "")
    return float(value) if value.isdigit() else None
