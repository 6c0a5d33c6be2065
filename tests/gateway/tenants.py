"""Keys for tenants of a gateway that wants them."""

import re
from collections.abc import Mapping

import httpx2

from retouche.contract.keys import Scope

HEALTH = {"/healthz", "/readyz", "/metrics"}
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


def routes(client: httpx2.Client, things: Mapping[str, str]) -> list[tuple[str, str]]:
    """Every method and path of the OpenAPI document, health aside, with those things for its parameters."""
    paths = client.get("/openapi.json").json()["paths"]
    return [
        (method.upper(), re.sub(r"{(\w+)(:path)?}", lambda found: things.get(found[1], "absent"), path))
        for path, methods in paths.items()
        for method in methods
        if path not in HEALTH
    ]
