"""How many event streams a tenant may have open at a gateway: each keeps a connection to Redis as well."""

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

from fastapi import Depends, Request

from gateway.callers import TheCaller
from gateway.settings import Settings
from retouche.errors import Overloaded

_RETRY_SECONDS = 10.0


def _room_to_follow(request: Request, who: TheCaller) -> None:
    """Overloaded where the tenant follows as much as it may: said before the answer begins."""
    settings: Settings = request.app.state.settings
    followers: Counter[str] = request.app.state.followers
    most = settings.tenant_followers
    if settings.require_keys and followers[who.tenant] >= most:
        raise Overloaded(
            f"tenant {who.tenant!r} follows {most} jobs and runs at this gateway and may follow no more; "
            "close a stream, or ask for the state now and then",
            retry_after_seconds=_RETRY_SECONDS,
        )


ROOM_TO_FOLLOW = Depends(_room_to_follow)


@contextmanager
def following(followers: Counter[str], tenant: str) -> Iterator[None]:
    """Within, the tenant follows one more."""
    followers[tenant] += 1
    try:
        yield
    finally:
        followers[tenant] -= 1
        if not followers[tenant]:
            del followers[tenant]
