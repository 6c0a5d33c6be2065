"""Who calls, and what he may do.

A route says with READ, CURATE, TRAIN, SERVICES or ADMIN what it demands of a key, and takes a `TheCaller`
where it has to know whose things it is about.
"""

import hmac
from dataclasses import dataclass
from typing import Annotated
from urllib.parse import urlsplit

from fastapi import Depends, Request, Security
from fastapi.security import HTTPBearer, SecurityScopes
from starlette.requests import HTTPConnection

from gateway.key_store import KeyStore
from gateway.rate import take_token
from gateway.settings import LOOPBACK, Settings
from retouche.contract.keys import SCOPES, Scope
from retouche.contract.payload import LOCAL
from retouche.errors import Forbidden, RetoucheError, Unauthorized, Unavailable
from serving.guard import bearer


@dataclass(frozen=True)
class Caller:
    """A tenant, and what the key allows."""

    tenant: str
    scopes: frozenset[Scope]

    def told(self, problem: RetoucheError) -> str:
        """What is wrong behind the gateway; at which address is for whoever runs it."""
        return problem.detail if "admin" in self.scopes else problem.problem().title


ANYBODY = Caller(LOCAL, frozenset(SCOPES))  # of a gateway that wants no keys
_ADMIN = Caller(LOCAL, frozenset({"admin"}))  # who bears RETOUCHE_ADMIN_KEY


async def admit(connection: HTTPConnection) -> None:
    """Note who calls.

    Raises:
        Unauthorized: a key is wanted, and there is none, or not one of ours.
        Overloaded: the tenant calls too often.
        Unavailable: the gateway is still starting.
    """
    state, settings = connection.app.state, connection.app.state.settings
    connection.state.caller = who = await _identified(connection)
    if settings.require_keys:
        await take_token(
            state.redis, who.tenant, settings.tenant_requests_per_second, settings.tenant_request_burst
        )


async def _identified(connection: HTTPConnection) -> Caller:
    state = connection.app.state
    settings: Settings = state.settings
    if not settings.require_keys:
        _from_this_machine(connection)
        return ANYBODY
    if not hasattr(state, "redis"):
        raise Unavailable("the gateway is still starting; retry in a moment", retry_after_seconds=1)
    given = bearer(connection)
    admin = settings.admin_key.get_secret_value() if settings.admin_key else ""
    if given and hmac.compare_digest(given.encode(), admin.encode()):
        return _ADMIN
    keys: KeyStore = state.keys
    if (known := await keys.known(given)) is None:
        wrong = "the key is not known, or was revoked" if given else "a key is wanted"
        raise Unauthorized(
            f"{wrong}: send `Authorization: Bearer KEY` (clients: api_key=, commands: RETOUCHE_API_KEY)"
        )
    return Caller(known.tenant, known.scopes)


def _from_this_machine(connection: HTTPConnection) -> None:
    """Forbidden to pages of other sites: a browser here reaches the loopback address for any of them."""
    host, origin = connection.url.hostname, connection.headers.get("origin")
    if host not in LOOPBACK or (origin is not None and urlsplit(origin).netloc != connection.url.netloc):
        raise Forbidden(
            f"a gateway that wants no keys answers this machine alone, as {' or '.join(LOOPBACK)}, not "
            f"{origin or host}; for others set RETOUCHE_REQUIRE_KEYS=true and RETOUCHE_ADMIN_KEY"
        )


_scheme = HTTPBearer(auto_error=False, description="`rt_<id>_<secret>`, as `retouche keys create` tells it")


def caller(request: Request) -> Caller:
    """Whom `admit` has noted."""
    found: Caller = request.state.caller
    return found


TheCaller = Annotated[Caller, Depends(caller)]


async def _permitted(
    wanted: SecurityScopes, who: TheCaller, _documented: Annotated[object, Security(_scheme)]
) -> None:
    """Forbidden unless the key has every scope that the route demands."""
    if missing := [scope for scope in wanted.scopes if scope not in who.scopes]:
        held = ", ".join(sorted(who.scopes))
        raise Forbidden(f"this needs a key with the scope {missing[0]!r}; yours has {held}")


READ = Security(_permitted, scopes=["read"])
CURATE = Security(_permitted, scopes=["curate"])
TRAIN = Security(_permitted, scopes=["train"])
SERVICES = Security(_permitted, scopes=["services"])
ADMIN = Security(_permitted, scopes=["admin"])
