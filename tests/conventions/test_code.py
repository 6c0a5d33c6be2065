"""The conventions of the design that a machine can check, file by file."""

import ast
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGES = sorted(path.parent.name for path in ROOT.glob("*/__init__.py"))
FILES = sorted(path for package in PACKAGES for path in (ROOT / package).rglob("*.py"))
NAMES = [str(path.relative_to(ROOT)) for path in FILES]
LIGHT = ("retouche", "serving", "gateway", "worker", "studio")
BESIDE_THEIR_MODELS = (  # which have a process of their own
    "services/critique/app.py",
    "services/instruction/app.py",
    "services/reward/app.py",
)


def lengths(tree: ast.AST) -> list[tuple[str, int]]:
    """Name and lines of every function."""
    return [
        (node.name, (node.end_lineno or node.lineno) - node.lineno + 1)
        for node in ast.walk(tree)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    ]


def test_functions_fit_one_look() -> None:
    """95% within 40 lines, none over 80."""
    found = [
        (lines, f"{file}:{name}")
        for file, path in zip(NAMES, FILES, strict=True)
        for name, lines in lengths(ast.parse(path.read_text()))
    ]
    assert not [entry for entry in found if entry[0] > 80]
    long = [entry for entry in found if entry[0] > 40]
    assert len(long) <= 0.05 * len(found), long


def test_files_do_one_thing() -> None:
    """95% within 300 lines, none over 500."""
    found = {name: len(path.read_text().splitlines()) for name, path in zip(NAMES, FILES, strict=True)}
    assert not {name: lines for name, lines in found.items() if lines > 500}
    long = {name: lines for name, lines in found.items() if lines > 300}
    assert len(long) <= 0.05 * len(found), long


def test_no_package_is_left_out_of_the_checks() -> None:
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]
    assert sorted(settings["mypy"]["packages"]) == sorted([*PACKAGES, "tests"])
    assert sorted(settings["importlinter"]["root_packages"]) == sorted({*PACKAGES} - {"bench"})
    code = next(line for line in (ROOT / "Makefile").read_text().splitlines() if line.startswith("CODE"))
    assert sorted(code.split()[2:]) == sorted([*PACKAGES, "tests"])


@pytest.mark.parametrize("name", NAMES)
def test_names_say_what_is_inside(name: str) -> None:
    assert not {"utils", "helpers", "common", "util", "helper", "misc"} & set(
        Path(name).with_suffix("").parts
    )


@pytest.mark.parametrize(("name", "path"), list(zip(NAMES, FILES, strict=True)), ids=NAMES)
def test_only_settings_read_the_environment(name: str, path: Path) -> None:
    reads = [
        node.lineno
        for node in ast.walk(ast.parse(path.read_text()))
        if (isinstance(node, ast.Attribute) and node.attr in ("environ", "getenv"))
    ]
    assert not reads or name.endswith("settings.py") or name in (*STARTS_PROCESSES, *TELLS_A_LIBRARY), reads


STARTS_PROCESSES = (  # they pass theirs on to children
    "retouche/local/process.py",
    "bench/processes.py",
    "serving/model_process.py",
)
TELLS_A_LIBRARY = ("retouche/store.py",)  # obstore, which can be told of its threads in no other way


@pytest.mark.parametrize(("name", "path"), list(zip(NAMES, FILES, strict=True)), ids=NAMES)
def test_nothing_unpickles(name: str, path: Path) -> None:
    """No torch.load and no pickle of anything from outside: weights are safetensors, messages are JSON."""
    tree = ast.parse(path.read_text())
    imported = {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    calls = [node for node in ast.walk(tree) if isinstance(node, ast.Call)]
    from_itself = {"pickle", "pickle.loads"} if name in ASKS_ITS_OWN_FORK else set()
    reading = {"torch.load", "pickle.loads", "pickle.load"} - from_itself
    read = [node for node in calls if ast.unparse(node.func) in reading]
    assert not imported & ({"pickle", "dill", "joblib"} - from_itself), name
    assert not read or name in CONVERTS_PICKLES, name
    assert all("weights_only=True" in ast.unparse(node) for node in read), name


ASKS_ITS_OWN_FORK = (  # what a model reads, over pipes that nobody else has
    "serving/model_host.py",
    "serving/preparing.py",
)
CONVERTS_PICKLES = (  # to safetensors, once and by hand, what is published as nothing else
    "services/reward/convert.py",
)


@pytest.mark.parametrize(("name", "path"), list(zip(NAMES, FILES, strict=True)), ids=NAMES)
def test_every_module_says_what_it_is(name: str, path: Path) -> None:
    assert ast.get_docstring(ast.parse(path.read_text())), f"{name} has no docstring"


def test_light_packages_import_without_side_effects() -> None:
    """Importing them starts no thread, opens no socket and loads no torch."""
    modules = [
        ".".join(Path(name).with_suffix("").parts).removesuffix(".__init__")
        for name in NAMES
        if (name.split("/")[0] in LIGHT and not name.endswith("__main__.py")) or name in BESIDE_THEIR_MODELS
    ]
    script = (
        "import importlib, sys, threading, socket\n"
        "def refuse(*_): raise AssertionError('a socket was opened at import')\n"
        "socket.socket.connect = refuse\n"
        f"[importlib.import_module(name) for name in {modules!r}]\n"
        "assert 'torch' not in sys.modules, 'torch was imported'\n"
        "assert threading.active_count() == 1, threading.enumerate()\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
