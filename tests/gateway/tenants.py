"""Keys for tenants of a gateway that wants them."""

import httpx2

from retouche.contract.keys import Scope

ADMIN_KEY = "an-admin-key-that-nobody-guesses-0"


def bearer(key: str) -> dict[str, str]:
    """The header that a key is sent in."""
    return {"authorization": f"Bearer {key}"}


def made(guarded: httpx2.Client, tenant: str, *scopes: Scope) -> dict[str, str]:
    """The header of a new key."""
    wanted = {"tenant": tenant, "scopes": scopes}
    answer = guarded.post("/v1/keys", json=wanted, headers=bearer(ADMIN_KEY))
    assert answer.status_code == 201, answer.text
    return bearer(answer.json()["key"])
