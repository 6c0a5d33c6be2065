"""`retouche keys`: the admin key makes the first one, and that one opens what it is for."""

import json
from collections.abc import Iterator

import pytest
from pydantic import SecretStr
from typer.testing import CliRunner, Result

from gateway.app import create_app
from retouche.cli.main import app
from retouche.client import Retouche
from retouche.errors import Forbidden, JobNotFound, Unauthorized
from retouche.store import ObjectStore
from tests.gateway.conftest import settings_for
from tests.gateway.tenants import ADMIN_KEY
from tests.live import live


@pytest.fixture
def url(store: ObjectStore, redis_url: str) -> Iterator[str]:
    """A gateway that wants keys."""
    wanting = {"require_keys": True, "admin_key": SecretStr(ADMIN_KEY)}
    with live(create_app(settings_for(store.url, redis_url).model_copy(update=wanting))) as url:
        yield url


def retouche(url: str, key: str | None, *arguments: str) -> Result:
    environment = {"RETOUCHE_URL": url, "RETOUCHE_API_KEY": key, "COLUMNS": "200"}
    return CliRunner().invoke(app, list(arguments), env=environment)


def test_a_key_is_made_used_listed_and_revoked(url: str) -> None:
    made = retouche(url, ADMIN_KEY, "keys", "create", "acme")
    assert made.exit_code == 0, made.output
    key = made.stdout.strip()
    assert "acme may curate, read, services, train" in made.stderr
    job = retouche(url, key, "curate", "a red circle", "--no-wait", "--json")
    assert json.loads(job.stdout)["state"] == "queued"
    (listed,) = json.loads(retouche(url, ADMIN_KEY, "keys", "list", "--json").stdout)
    assert (listed["tenant"], "key" in listed) == ("acme", False)
    assert listed["id"] in retouche(url, ADMIN_KEY, "keys", "list").stderr
    revoked = retouche(url, ADMIN_KEY, "keys", "revoke", listed["id"], "--json")
    assert json.loads(revoked.stdout) == {"revoked": listed["id"]}
    refused = retouche(url, key, "jobs", "list")
    assert (refused.exit_code, "unauthorized" in refused.stderr) == (1, True)


def test_a_key_may_be_for_less(url: str) -> None:
    made = retouche(url, ADMIN_KEY, "keys", "create", "acme", "--scope", "read", "--json")
    key = json.loads(made.stdout)
    assert key["scopes"] == ["read"]
    refused = retouche(url, key["key"], "curate", "a red circle", "--no-wait")
    assert refused.exit_code == 1
    assert "forbidden: this needs a key with the scope 'curate'" in refused.stderr


@pytest.mark.parametrize(
    ("key", "arguments", "says"),
    [
        (None, ("keys", "list"), "RETOUCHE_API_KEY"),
        (ADMIN_KEY, ("keys", "create", "Acme & Sons"), "tenant"),
        (ADMIN_KEY, ("keys", "create", "acme", "--scope", "everything"), "scopes"),
        (ADMIN_KEY, ("keys", "revoke", "0000000000000000"), "there is no key"),
    ],
)
def test_a_mistake_is_one_sentence(url: str, key: str | None, arguments: tuple[str, ...], says: str) -> None:
    result = retouche(url, key, *arguments)
    assert result.exit_code == 1
    assert says in result.stderr
    assert "Traceback" not in result.stderr


def test_the_client_takes_the_key_and_raises_what_it_may_not(url: str) -> None:
    with Retouche(url, api_key=ADMIN_KEY) as admin:
        key = admin.create_key("acme", ["read"]).key
        with pytest.raises(Forbidden, match="'read'"):
            list(admin.jobs())
    with Retouche(url, api_key=key) as reader:
        assert list(reader.jobs()) == []
        with pytest.raises(JobNotFound):
            reader.job("job-0000000000000000")
    with Retouche(url) as nobody, pytest.raises(Unauthorized):
        list(nobody.jobs())
