"""Everything that can go wrong, once: served as problem+json (RFC 9457), raised again by the clients.

RetoucheError                  500 internal              bug; not retryable
├── BadRequest                 400 bad-request           malformed beyond what a payload model can say
│   ├── BadImage               400 bad-image             not an image, truncated, too large, not allowed
│   └── BadPrompts             400 bad-prompts           a prompt file that cannot be read
├── InvalidPayload             422 invalid-payload       payload validation, and nothing else
├── Unauthorized               401 unauthorized          no key, or one that is not known
├── Forbidden                  403 forbidden             the key lacks a scope, which is named
├── NotFound                   404 not-found
│   ├── ImageNotFound          404 image-not-found       the reference is not in the object store
│   ├── JobNotFound            404 job-not-found
│   └── RunNotFound            404 run-not-found
├── Conflict                   409 conflict              the state of the thing forbids it
│   └── TrainingStopped        409 training-stopped      a run that would only get worse: NaN, collapse
├── PayloadTooLarge            413 payload-too-large
├── Overloaded                 429 overloaded            retryable: come back after `retry_after_seconds`
├── ModelFailure               500 model-failure         the model raised, or answered out of its schema
├── Unavailable                503 unavailable           retryable: loading, draining or down
│   ├── ServiceUnreachable     503 service-unreachable   retryable
│   │   └── ConnectionBroken   503 connection-broken     retryable: it was at this request, then it was gone
│   ├── QueueUnavailable       503 queue-unavailable     retryable: Redis is down
│   └── StoreUnavailable       503 store-unavailable     retryable: the object store cannot be reached
├── StoreFull                  507 store-full            no space left in the object store
├── StoreRefused               500 store-refused         no such bucket, or credentials that may not
└── DeadlineExceeded           504 deadline-exceeded     retryable
"""

from typing import ClassVar

from pydantic import BaseModel, ConfigDict, Field


class FieldProblem(BaseModel):
    """One field of a payload and what is wrong with it."""

    field: str
    problem: str


class Problem(BaseModel):
    """An error on the wire: application/problem+json."""

    model_config = ConfigDict(extra="ignore")

    type: str = Field(description="`urn:retouche:` and the error's code")
    title: str
    status: int
    detail: str = Field(description="What was wrong, with which value, and what to do")
    retryable: bool = False
    retry_after_seconds: float | None = None
    fields: list[FieldProblem] = []


class RetoucheError(Exception):
    """The root of the tree. `detail` says what was wrong, with which value, and what to do."""

    code: ClassVar[str] = "internal"
    status: ClassVar[int] = 500
    retryable: ClassVar[bool] = False

    def __init__(
        self,
        detail: str,
        *,
        fields: list[FieldProblem] | None = None,
        retry_after_seconds: float | None = None,
    ) -> None:
        super().__init__(detail)
        self.detail = detail
        self.fields = fields or []
        self.retry_after_seconds = retry_after_seconds

    def problem(self) -> Problem:
        """This error as it goes over the wire."""
        return Problem(
            type=f"urn:retouche:{self.code}",
            title=self.code.replace("-", " ").capitalize(),
            status=self.status,
            detail=self.detail,
            retryable=self.retryable,
            retry_after_seconds=self.retry_after_seconds,
            fields=self.fields,
        )


class BadRequest(RetoucheError):
    code, status = "bad-request", 400


class BadImage(BadRequest):
    code = "bad-image"


class BadPrompts(BadRequest):
    code = "bad-prompts"


class InvalidPayload(RetoucheError):
    code, status = "invalid-payload", 422


class Unauthorized(RetoucheError):
    code, status = "unauthorized", 401


class Forbidden(RetoucheError):
    code, status = "forbidden", 403


class NotFound(RetoucheError):
    code, status = "not-found", 404


class ImageNotFound(NotFound):
    code = "image-not-found"


class JobNotFound(NotFound):
    code = "job-not-found"


class RunNotFound(NotFound):
    code = "run-not-found"


class Conflict(RetoucheError):
    code, status = "conflict", 409


class TrainingStopped(Conflict):
    code = "training-stopped"


class PayloadTooLarge(RetoucheError):
    code, status = "payload-too-large", 413


class Overloaded(RetoucheError):
    code, status, retryable = "overloaded", 429, True


class ModelFailure(RetoucheError):
    code, status = "model-failure", 500


class Unavailable(RetoucheError):
    code, status, retryable = "unavailable", 503, True


class ServiceUnreachable(Unavailable):
    code = "service-unreachable"


class ConnectionBroken(ServiceUnreachable):
    code = "connection-broken"


class QueueUnavailable(Unavailable):
    code = "queue-unavailable"


class StoreUnavailable(Unavailable):
    code = "store-unavailable"


class StoreFull(RetoucheError):
    code, status = "store-full", 507


class StoreRefused(RetoucheError):
    code = "store-refused"


class DeadlineExceeded(RetoucheError):
    code, status, retryable = "deadline-exceeded", 504, True


def from_problem(problem: Problem) -> RetoucheError:
    """The error that a problem on the wire stands for; the root class where the code is not known."""
    code = problem.type.removeprefix("urn:retouche:")
    error = _by_code().get(code, RetoucheError)
    return error(problem.detail, fields=problem.fields, retry_after_seconds=problem.retry_after_seconds)


def all_errors() -> list[type[RetoucheError]]:
    """Every class of the tree, the root first."""
    found = [RetoucheError]
    for error in found:
        found.extend(error.__subclasses__())
    return found


def _by_code() -> dict[str, type[RetoucheError]]:
    return {error.code: error for error in all_errors()}
