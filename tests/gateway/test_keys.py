"""With keys wanted, every call needs one that is known and has the route's scope; health needs none."""

from pathlib import Path

import httpx2
import pytest
from pydantic import ValidationError

from gateway.settings import Settings
from retouche.contract.keys import Scope
from tests.gateway.tenants import ADMIN_KEY, HEALTH, bearer, made, routes

ABSENT = {
    "job_id": "job-0000000000000000",
    "run_id": "run-0000000000000000",
    "key_id": "0" * 16,
    "image": "sha256:" + "0" * 64,
    "name": "README.md",
}


@pytest.mark.parametrize(
    "given",
    [None, "Bearer wrong", "Bearer", "Basic secret", "Bearer sécret", f"Bearer rt_{'0' * 16}_{'0' * 43}"],
)
def test_without_a_known_key_no_route_answers(guarded: httpx2.Client, given: str | None) -> None:
    headers = [] if given is None else [(b"authorization", given.encode())]
    called = routes(guarded, ABSENT)
    assert len(called) > 25
    for method, path in called:
        answer = guarded.request(method, path, headers=headers, content=b"{not even JSON")
        assert answer.status_code == 401, (method, path)
        assert answer.headers["www-authenticate"].startswith("Bearer")
        if method != "HEAD":
            assert answer.headers["content-type"] == "application/problem+json"
            assert answer.json()["type"] == "urn:retouche:unauthorized"
    for path in HEALTH:
        assert guarded.get(path).status_code == 200


def test_a_key_opens_what_its_scope_says_and_nothing_more(guarded: httpx2.Client) -> None:
    """Every route has one scope: a key with all the others is told which one it lacks."""
    scopes: tuple[Scope, ...] = ("curate", "train", "read", "services", "admin")
    keys = {
        lacking: made(guarded, "acme", *(scope for scope in scopes if scope != lacking)) for lacking in scopes
    }
    for method, path in routes(guarded, ABSENT):
        answers = {scope: guarded.request(method, path, headers=key) for scope, key in keys.items()}
        refused = [scope for scope, answer in answers.items() if answer.status_code == 403]
        assert len(refused) == 1, (method, path, refused)
        if method != "HEAD":
            problem = answers[refused[0]].json()
            assert problem["type"] == "urn:retouche:forbidden"
            assert repr(refused[0]) in problem["detail"]


def test_a_key_is_told_once_and_kept_as_a_digest(guarded: httpx2.Client, folder: Path) -> None:
    wanted = {"tenant": "acme", "scopes": ["read"]}
    told = guarded.post("/v1/keys", json=wanted, headers=bearer(ADMIN_KEY)).json()
    assert told["key"].startswith(f"rt_{told['id']}_")
    (stored,) = (folder / "keys").iterdir()
    assert told["key"].removeprefix(f"rt_{told['id']}_") not in stored.read_text()
    (listed,) = guarded.get("/v1/keys", headers=bearer(ADMIN_KEY)).json()["keys"]
    assert listed == {name: value for name, value in told.items() if name != "key"}


def test_a_revoked_key_opens_nothing(guarded: httpx2.Client) -> None:
    key = made(guarded, "acme", "read")
    assert guarded.get("/v1/jobs", headers=key).status_code == 200
    identifier = key["authorization"].split("_")[1]
    assert guarded.delete(f"/v1/keys/{identifier}", headers=bearer(ADMIN_KEY)).status_code == 204
    assert guarded.get("/v1/jobs", headers=key).status_code == 401
    assert guarded.delete(f"/v1/keys/{identifier}", headers=bearer(ADMIN_KEY)).status_code == 404


@pytest.mark.parametrize(
    ("wanted", "field"),
    [
        ({"tenant": "../other", "scopes": ["read"]}, "tenant"),
        ({"tenant": "", "scopes": ["read"]}, "tenant"),
        ({"tenant": "acme", "scopes": []}, "scopes"),
        ({"tenant": "acme", "scopes": ["everything"]}, "scopes.0"),
        ({"tenant": "acme", "scopes": ["read"], "secret": "mine"}, "secret"),
    ],
)
def test_a_key_that_makes_no_sense_is_refused(
    guarded: httpx2.Client, folder: Path, wanted: dict[str, object], field: str
) -> None:
    answer = guarded.post("/v1/keys", json=wanted, headers=bearer(ADMIN_KEY))
    assert (answer.status_code, answer.json()["fields"][0]["field"]) == (422, field)
    assert not (folder / "keys").exists()


def test_an_open_gateway_serves_a_loopback_address_alone() -> None:
    with pytest.raises(ValidationError, match="RETOUCHE_REQUIRE_KEYS=true"):
        Settings(host="0.0.0.0")
    Settings(host="0.0.0.0", require_keys=True)


def test_an_open_gateway_answers_no_page_of_another_site(gateway: httpx2.Client) -> None:
    """A browser on this machine would carry the request of any site, under whichever name it came here."""
    there = {"host": f"evil.example:{gateway.base_url.port}"}, {"origin": "https://evil.example"}
    for headers in there:
        answer = gateway.post("/v1/prompts", content=b"a red circle", headers=headers)
        assert (answer.status_code, answer.json()["type"]) == (403, "urn:retouche:forbidden")
    own = {"origin": str(gateway.base_url).rstrip("/"), "content-type": "text/plain"}
    assert gateway.post("/v1/prompts", content=b"a red circle", headers=own).status_code == 201
