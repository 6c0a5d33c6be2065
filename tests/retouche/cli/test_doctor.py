"""`retouche doctor` says what is missing and what to do about it."""

import json
from pathlib import Path
from typing import Any

import pytest
from fastapi import FastAPI
from typer.testing import CliRunner

from retouche.cli.main import app
from tests.gateway.server import NOTHING_LISTENS
from tests.live import live


def findings(*arguments: str, url: str = NOTHING_LISTENS) -> dict[str, dict[str, Any]]:
    """What `doctor --json` has looked at, by name."""
    result = CliRunner().invoke(app, ["doctor", "--json", *arguments], env={"RETOUCHE_URL": url})
    found = json.loads(result.stdout)
    assert result.exit_code == (0 if all(finding["well"] for finding in found) else 1)
    assert all(finding["well"] or finding["fix"] for finding in found)
    return {finding["what"]: finding for finding in found}


def test_this_checkout_is_ready() -> None:
    found = findings()
    for what in ("packages: serving", "packages: queue", "packages: training", "redis-server", "model base"):
        assert found[what]["well"], found[what]


def test_people_get_the_same_as_lines() -> None:
    result = CliRunner().invoke(app, ["doctor"], env={"RETOUCHE_URL": NOTHING_LISTENS, "COLUMNS": "200"})
    assert result.stdout == ""
    assert "redis-server" in result.stderr


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (None, "no "),
        ("generation: {model: [", "is not YAML"),
        ("generation: {model: shapes/models/gone}", "no weights in shapes/models/gone"),
    ],
    ids=["missing", "no YAML", "no weights"],
)
def test_a_profile_that_cannot_be_used(tmp_path: Path, content: str | None, says: str) -> None:
    file = tmp_path / "profile.yaml"
    if content is not None:
        file.write_text(content)
    found = findings("--profile", str(file))
    details = [finding["detail"] for finding in found.values() if not finding["well"]]
    assert any(says in detail for detail in details), found


def test_services_that_are_down_are_missing(gateway_url: str) -> None:
    found = findings(url=gateway_url)
    assert not found["service generation"]["well"]


def test_another_program_at_the_gateways_address() -> None:
    with live(FastAPI()) as url:
        found = findings(url=url)
    assert not found["gateway"]["well"]
    assert "RETOUCHE_URL" in found["gateway"]["fix"]
