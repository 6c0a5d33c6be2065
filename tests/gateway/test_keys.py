"""With keys configured every call of the API needs one; health does not."""

import httpx2
import pytest

from gateway.app import create_app
from gateway.settings import Settings
from tests.gateway.server import serve


@pytest.mark.parametrize("given", [None, "Bearer wrong", "Bearer", "Basic secret", "Bearer sécret"])
def test_without_a_known_key_nothing_is_answered(settings: Settings, given: str | None) -> None:
    headers = [] if given is None else [(b"authorization", given.encode())]
    with serve(create_app(settings.model_copy(update={"api_keys": ["secret"]}))) as gateway:
        answer = gateway.get("/v1/jobs", headers=headers)
        assert (answer.status_code, answer.json()["type"]) == (401, "urn:retouche:unauthorized")
        assert gateway.get("/healthz").status_code == 200


def test_a_known_key_opens(settings: Settings) -> None:
    with serve(create_app(settings.model_copy(update={"api_keys": ["other", "secret"]}))) as gateway:
        answer: httpx2.Response = gateway.get("/v1/jobs", headers={"authorization": "Bearer secret"})
        assert answer.status_code == 200
