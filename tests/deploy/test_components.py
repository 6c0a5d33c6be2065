"""Every component's image holds what it imports and no more, and Dockerfile, compose.yaml and code agree."""

import os
import re
import subprocess
import sys
import tomllib
from importlib.metadata import PackageNotFoundError, packages_distributions, requires
from pathlib import Path
from typing import Any

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from retouche.contract.stages import STAGES

ROOT = Path(__file__).parents[2]
DOCKERFILE = (ROOT / "deploy" / "Dockerfile").read_text()
README = (ROOT / "README.md").read_text()
STAGE_PROCESSES = {stage: f"services.{stage}" for stage in STAGES}
MODULES = {name: name for name in ("gateway", "worker", "trainer", "studio")} | STAGE_PROCESSES
PORTS = {"gateway": 8700, **dict(zip(STAGES, range(8701, 8706), strict=True))}
EXTRAS: dict[str, list[str]] = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"][
    "optional-dependencies"
]
OURS = {
    "retouche",
    "serving",
    "services",
    "gateway",
    "worker",
    "trainer",
    "studio",
    "shapes",
    "bench",
    "tests",
}


def wanted(extra: str) -> list[Requirement]:
    """What an extra installs beside retouche's own dependencies, extras of ours followed."""
    found = []
    for requirement in map(Requirement, EXTRAS[extra]):
        if requirement.name == "retouche":
            found += [one for inner in requirement.extras for one in wanted(inner)]
        else:
            found.append(requirement)
    return found


def installed(component: str) -> set[str]:
    """The distributions in a component's image, those that others bring along included."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    waiting = [*wanted(component), *map(Requirement, project["dependencies"])]
    found: set[tuple[str, str]] = set()
    while waiting:
        requirement = waiting.pop()
        for extra in ("", *requirement.extras):
            entry = (canonicalize_name(requirement.name), extra)
            if entry not in found:
                found.add(entry)
                waiting += brought_along(*entry)
    return {name for name, _ in found}


def brought_along(name: str, extra: str) -> list[Requirement]:
    try:
        all_of_it = [Requirement(line) for line in requires(name) or []]
    except PackageNotFoundError:  # wanted on another platform only
        return []
    return [one for one in all_of_it if one.marker is None or one.marker.evaluate({"extra": extra})]


# Hides from the imports of a process what its image does not have, as if it were not installed.
HIDING = """
import asyncio, importlib, sys
from importlib.machinery import PathFinder
hidden, service, *modules = sys.argv[1:]
hidden = set(hidden.split())
class Installed(PathFinder):
    @classmethod
    def find_spec(cls, name, path=None, target=None):
        return None if name.split(".")[0] in hidden else super().find_spec(name, path, target)
sys.meta_path[sys.meta_path.index(PathFinder)] = Installed
for module in modules:
    importlib.import_module(module)

async def load(app):
    async with app.router.lifespan_context(app):
        while getattr(app.state.readiness, "detail", "").startswith("the models are still loading"):
            await asyncio.sleep(0.1)
    return getattr(app.state.readiness, "detail", None)

if service:
    sys.exit(asyncio.run(load(importlib.import_module(service).create_app())))
"""


@pytest.mark.parametrize("component", MODULES)
def test_a_component_needs_nothing_that_its_image_does_not_have(component: str, tmp_path: Path) -> None:
    """It imports, and a service loads its models."""
    has = installed(component)
    hidden = [
        module
        for module, distributions in packages_distributions().items()
        if module not in OURS and not has & set(map(canonicalize_name, distributions))
    ]
    folder = ROOT / MODULES[component].replace(".", "/")
    modules = [
        ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
        for path in folder.rglob("*.py")
    ]
    service = f"{MODULES[component]}.app" if component in STAGES else ""
    done = subprocess.run(
        [sys.executable, "-c", HIDING, " ".join(hidden), service, *modules],
        cwd=ROOT,
        env=os.environ | {"RETOUCHE_STORE": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("component", ["gateway", "worker", "studio"])
def test_torch_is_in_no_image_that_runs_no_model(component: str) -> None:
    assert not installed(component) & {"torch", "transformers", "diffusers"}


@pytest.mark.parametrize("component", MODULES)
def test_the_dockerfile_has_every_component(component: str) -> None:
    stage = re.search(rf"^FROM (\S+) AS {component}\n(.*?)(?=^FROM )", DOCKERFILE, re.M | re.S)
    assert stage is not None
    assert f'CMD ["python", "-m", "{MODULES[component]}"]' in stage[2]


def test_nothing_is_pinned_twice() -> None:
    lines = (ROOT / "requirements.lock").read_text().splitlines()
    names = [canonicalize_name(line.partition("==")[0]) for line in lines]
    assert sorted(names) == sorted(set(names))


@pytest.fixture(scope="module")
def services() -> dict[str, dict[str, Any]]:
    """compose.yaml's own."""
    composed = yaml.safe_load((ROOT / "compose.yaml").read_text())
    found: dict[str, dict[str, Any]] = composed["services"]
    return found


def test_compose_runs_every_component(services: dict[str, dict[str, Any]]) -> None:
    assert set(services) == {*MODULES, "redis", "vllm"}
    assert {name for name, service in services.items() if "profiles" in service} == {"vllm"}
    for component in MODULES:
        assert services[component]["build"]["args"] == {"COMPONENT": component}


def test_compose_guards_every_component(services: dict[str, dict[str, Any]]) -> None:
    for name, service in services.items():
        assert service["healthcheck"]["test"], name
        assert service["restart"] == "unless-stopped", name
        assert set(service["deploy"]["resources"]["limits"]) == {"cpus", "memory"}, name
        if name in (*MODULES, "redis"):
            assert (service["read_only"], service["cap_drop"]) == (True, ["ALL"]), name


def test_compose_asks_and_tells_the_right_ports(services: dict[str, dict[str, Any]]) -> None:
    for component, port in PORTS.items():
        assert f":{port}/readyz" in services[component]["healthcheck"]["test"][-1]
    settings = services["worker"]["environment"]
    for stage in STAGES:
        assert settings[f"RETOUCHE_{stage.upper()}_URL"] == f"http://{stage}:{PORTS[stage]}"


def test_compose_sets_nothing_that_no_settings_read(services: dict[str, dict[str, Any]]) -> None:
    for component in MODULES:
        given = {name for name in services[component]["environment"] if name.startswith("RETOUCHE_")}
        assert given <= all_settings(), component


def test_every_container_with_a_gpu_can_be_given_another(services: dict[str, dict[str, Any]]) -> None:
    """`count: 1` would be the first one for all of them."""
    on_gpus = yaml.safe_load((ROOT / "deploy" / "compose.gpu.yaml").read_text())["services"]
    containers = {"vllm": services["vllm"]} | {name: one for name, one in on_gpus.items() if "deploy" in one}
    assert set(containers) == {"generation", "editing", "reward", "trainer", "vllm"}
    for name, container in containers.items():
        (device,) = container["deploy"]["resources"]["reservations"]["devices"]
        variable = f"RETOUCHE_{name.upper()}_GPU"
        assert device == {
            "driver": "nvidia",
            "device_ids": [f"${{{variable}:-0}}"],
            "capabilities": ["gpu"],
        }
        assert variable in README


def test_vllm_leaves_memory_of_its_gpu_to_the_others(services: dict[str, dict[str, Any]]) -> None:
    """It takes nine tenths where it is not told otherwise."""
    command = services["vllm"]["command"]
    share = command[command.index("--gpu-memory-utilization") + 1]
    found = re.fullmatch(r"\$\{(\w+):-(.*)\}", share)
    assert found is not None
    assert float(found[2]) <= 0.5
    assert found[1] in README


def all_settings() -> set[str]:
    """The variables that the settings.py files read."""
    texts = [path.read_text() for path in ROOT.glob("**/settings.py") if ".venv" not in path.parts]
    fields = re.findall(r"^    (\w+): .*$", "\n".join(texts), re.M)
    return {f"RETOUCHE_{name.upper()}" for name in fields}
