"""`retouche doctor` says what is missing and what to do about it."""

import json
from pathlib import Path
from typing import Annotated, Any

import pytest
import yaml
from fastapi import FastAPI, Header, HTTPException
from typer.testing import CliRunner

from retouche.cli.main import app
from retouche.profile import FOLDER as PROFILES
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
    for what in ("packages: serving", "packages: queue", "packages: training", "redis-server"):
        assert found[what]["well"], found[what]
    assert found["model shapes/models/base"]["data"]["here"]
    assert "GPU" not in found


def test_people_get_the_same_as_lines() -> None:
    result = CliRunner().invoke(app, ["doctor"], env={"RETOUCHE_URL": NOTHING_LISTENS, "COLUMNS": "200"})
    assert result.stdout == ""
    assert "redis-server" in result.stderr


def test_people_read_brackets_as_they_are(tmp_path: Path) -> None:
    file = tmp_path / "profile[v2].yaml"
    file.write_text("generation: {model: shapes/models/base}")
    environment = {"RETOUCHE_URL": NOTHING_LISTENS, "COLUMNS": "2000"}
    said = CliRunner().invoke(app, ["doctor", "--profile", str(file)], env=environment).stderr
    assert f"profile {file}" in said
    assert "[type=missing" in said


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (None, "there is no profile"),
        ("generation: {model: [", "is not valid"),
        ("generation: {model: shapes/models/base}", "generation.width"),
    ],
    ids=["missing", "no YAML", "no profile"],
)
def test_a_profile_that_cannot_be_used(tmp_path: Path, content: str | None, says: str) -> None:
    file = tmp_path / "profile.yaml"
    if content is not None:
        file.write_text(content)
    found = findings("--profile", str(file))
    details = [finding["detail"] for finding in found.values() if not finding["well"]]
    assert any(says in detail for detail in details), found


@pytest.mark.parametrize("name", ["sd15", "sdxl", "modern"])
def test_every_model_of_a_shipped_profile_is_known(name: str) -> None:
    found = findings("--profile", name)
    models = [finding["data"] for what, finding in found.items() if what.startswith("model ")]
    assert len(models) >= 9
    assert all(model["gated"] is False and model["parameters"] is not None for model in models)
    assert all(model["revision"] for model in models if not model["model"].startswith("models/"))


def test_the_papers_line_up_before_anything_is_downloaded() -> None:
    found = findings("--profile", "sd15")
    base = found["model stable-diffusion-v1-5/stable-diffusion-v1-5"]
    assert "licence creativeml-openrail-m, not gated, revision main" in base["detail"]
    assert base["data"]["disk_bytes"] == 4_264_941_228
    assert found["memory generation"]["data"]["memory_bytes"] == 2_132_470_614
    assert found["memory editing"]["data"]["memory_bytes"] == 2_132_470_614 + 722_558_240
    assert not found["model models/HPSv2"]["well"]
    assert "python -m services.reward.convert HPS_v2.1_compressed.pt" in found["model models/HPSv2"]["fix"]
    critic = found["server http://127.0.0.1:8000/v1"]
    assert "vllm serve models/llava-critic-7b --port 8000" in critic["fix"]
    assert found["GPU"]["data"]["needed_bytes"] > 40e9


def test_a_gated_model_wants_a_token(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("HF_TOKEN", raising=False)
    profile = yaml.safe_load((PROFILES / "modern.yaml").read_text())
    profile["editing"] |= {"editor": "flux_kontext", "model": "black-forest-labs/FLUX.1-Kontext-dev"}
    file = tmp_path / "profile.yaml"
    file.write_text(yaml.safe_dump(profile))
    flux = findings("--profile", str(file))["model black-forest-labs/FLUX.1-Kontext-dev"]
    assert not flux["well"]
    assert "gated" in flux["detail"]
    assert "accept the licence at https://huggingface.co/black-forest-labs/FLUX.1-Kontext-dev" in flux["fix"]


def with_servers(folder: Path, url: str) -> str:
    """The file of a profile whose critic and instructor are at `url`; it asks there for two models."""
    profile = yaml.safe_load((PROFILES / "sd15.yaml").read_text())
    profile["critique"]["base_url"] = f"{url}/v1"
    profile["instruction"]["base_url"] = f"{url}/v1/"
    file = folder / "profile.yaml"
    file.write_text(yaml.safe_dump(profile))
    return str(file)


def test_a_vllm_that_serves_the_model_is_ready(tmp_path: Path) -> None:
    server = FastAPI()
    server.get("/v1/models")(lambda: {"data": [{"id": "models/llava-critic-7b"}]})
    with live(server) as url:
        found = findings("--profile", with_servers(tmp_path, url))
    assert found[f"server {url}/v1"]["well"]
    assert "not for Qwen/Qwen2.5-VL-7B-Instruct" in found[f"server {url}/v1/"]["detail"]


@pytest.mark.parametrize(
    ("key", "detail"),
    [
        ("secret", "ready"),
        ("another", "refuses the API key (401)"),
        ("", "refuses a call without an API key (401)"),
        ("schlüssel", "the API key of 9 characters cannot be sent"),
    ],
)
def test_a_vllm_that_wants_a_key(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, key: str, detail: str
) -> None:
    server = FastAPI()

    @server.get("/v1/models")
    def models(authorization: Annotated[str, Header()] = "") -> dict[str, list[dict[str, str]]]:
        if authorization != "Bearer secret":
            raise HTTPException(401)
        return {"data": [{"id": "models/llava-critic-7b"}]}

    monkeypatch.setenv("RETOUCHE_VLM_API_KEY", key)
    with live(server) as url:
        critic = findings("--profile", with_servers(tmp_path, url))[f"server {url}/v1"]
    assert critic["detail"].startswith(detail)
    assert critic["well"] or "RETOUCHE_VLM_API_KEY" in critic["fix"]


def test_an_address_of_a_vllm_that_is_none(tmp_path: Path) -> None:
    file = with_servers(tmp_path, "http://localhost:99999")
    critic = findings("--profile", file)["server http://localhost:99999/v1"]
    assert "port 99999 is not from 1 to 65535" in critic["detail"]
    assert "RETOUCHE_VLM_URL" in critic["fix"]


def test_services_that_are_down_are_missing(gateway_url: str) -> None:
    found = findings(url=gateway_url)
    assert not found["service generation"]["well"]


def test_an_address_that_is_none_is_a_finding() -> None:
    gateway = findings(url="http://localhost:99999")["gateway"]
    assert "port 99999 is not from 1 to 65535" in gateway["detail"]
    assert "RETOUCHE_URL" in gateway["fix"]


def test_another_program_at_the_gateways_address() -> None:
    with live(FastAPI()) as url:
        found = findings(url=url)
    assert not found["gateway"]["well"]
    assert "RETOUCHE_URL" in found["gateway"]["fix"]
