"""A service with a token answers those who bear it; its health is for everybody."""

import httpx2
import pytest
from fastapi import APIRouter, FastAPI
from pydantic import SecretStr

from retouche.contract.services import Health, Readiness
from serving.app import Loaded, create_service
from serving.settings import ServiceSettings
from tests.live import live

TOKEN = "0123456789abcdef0123456789abcdef"


async def load(_settings: ServiceSettings, _app: FastAPI) -> Loaded:
    async def stop() -> None:
        """Nothing to stop."""

    return Readiness(), stop


def service(token: str | None) -> FastAPI:
    router = APIRouter()
    router.post("/v1/verb")(Health)
    settings = ServiceSettings(internal_token=SecretStr(token) if token else None)
    return create_service("a service", router, load, settings)


@pytest.mark.parametrize("given", [None, "Bearer", "Bearer wrong", f"Basic {TOKEN}", f"Bearer {TOKEN}x"])
def test_who_does_not_bear_the_token_is_refused_before_the_body_is_read(given: str | None) -> None:
    with live(service(TOKEN)) as url:
        headers = {} if given is None else {"authorization": given}
        answer = httpx2.post(f"{url}/v1/verb", headers=headers, content=b"{broken")
        assert (answer.status_code, answer.json()["type"]) == (401, "urn:retouche:unauthorized")
        assert answer.headers["www-authenticate"] == 'Bearer realm="retouche"'
        assert httpx2.post(f"{url}/v1/nowhere", headers=headers).status_code == 401
        for path in ("/healthz", "/readyz", "/metrics", "/openapi.json"):
            assert httpx2.get(url + path).status_code == 200


@pytest.mark.parametrize(
    ("token", "given"), [(TOKEN, f"Bearer {TOKEN}"), (TOKEN, f"bearer {TOKEN}"), (None, "")]
)
def test_who_bears_it_is_answered_and_without_a_token_everybody(token: str | None, given: str) -> None:
    with live(service(token)) as url:
        assert httpx2.post(f"{url}/v1/verb", headers={"authorization": given}).json() == {"status": "ok"}
