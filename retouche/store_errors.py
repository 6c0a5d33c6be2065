"""What obstore raises, as the error tree has it. Its classes are few: the rest is in its message."""

import re
from collections.abc import Iterator
from contextlib import contextmanager

from obstore.exceptions import AlreadyExistsError, BaseError, NotFoundError

from retouche.errors import NotFound, RetoucheError, StoreFull, StoreRefused, StoreUnavailable

_NO_SPACE = ("No space left on device", "os error 28", "Disk quota exceeded", "os error 122")
_NO_BUCKET = ("NoSuchBucket", "ContainerNotFound", "The specified bucket does not exist")
_REFUSED = ("401 Unauthorized", "403 Forbidden", "169.254.169.254")  # asked where no credentials were given


@contextmanager
def translated(path: str) -> Iterator[None]:
    """obstore's errors as ours; FileExistsError, with what was said, for a lost put-if-absent."""
    try:
        yield
    except AlreadyExistsError as error:
        raise FileExistsError(str(error)) from None
    except FileExistsError:
        raise
    except (BaseError, OSError) as error:
        raise _error(path, str(error), isinstance(error, NotFoundError | FileNotFoundError)) from error


def undecided(error: FileExistsError) -> bool:
    """S3's 409: of several that create at once, none may have won; it asks to try again."""
    return "409 Conflict" in str(error)


def unanswered(error: StoreUnavailable) -> bool:
    """The answer was lost: the request may have been carried out."""
    return "HTTP error" in str(error.__cause__)


def _error(path: str, message: str, not_found: bool) -> RetoucheError:
    said = _said(message)
    if any(sign in message for sign in _NO_BUCKET):
        return StoreRefused(
            f"the object store has no such bucket ({said}); make it, or correct RETOUCHE_STORE"
        )
    if not_found:
        return NotFound(f"nothing is stored at {path}")
    if any(sign in message for sign in _REFUSED):
        return StoreRefused(
            f"the object store refuses {path} ({said}); check its credentials, for s3:// AWS_ACCESS_KEY_ID "
            "and AWS_SECRET_ACCESS_KEY"
        )
    if any(sign in message for sign in _NO_SPACE):
        return StoreFull(f"no space is left in the object store for {path}; free some and retry")
    return StoreUnavailable(f"the object store failed at {path}: {said}")


def _said(message: str) -> str:
    """The request and its outcome, then the code and text of an S3 error; without obstore's debug output."""
    request, _, body = message.split("\n\nDebug source")[0].partition("<?xml")
    fields = re.findall(r"<(?:Code|Message)>(.*?)</", body)
    return " ".join([request.splitlines()[0].strip(), *fields])
