"""Every command of the README, run as it is written, in a copy of the checkout, from `up` to the loop."""

import json
import os
import re
import shlex
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from retouche.local.system import default_ports
from shapes.prompts import held_out_prompts

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()
COMMANDS = re.findall(r"^    (\.venv/bin/retouche .*)$", README, re.M)
UP, *OTHERS = COMMANDS


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that looks like this checkout and has the files that the README speaks of."""
    folder = tmp_path_factory.mktemp("checkout")
    for path in ROOT.iterdir():
        if path.name not in (".git", ".venv", ".retouche"):
            (folder / path.name).symlink_to(path)
    (folder / ".venv").mkdir()
    (folder / ".venv" / "bin").symlink_to(Path(sys.executable).parent)
    (folder / "prompts.txt").write_text("\n".join(held_out_prompts()[:6]))
    (folder / "held-out.txt").write_text("\n".join(held_out_prompts()[6:10]))
    run = re.search(r"```yaml\n(# run\.yaml.*?)```", README, re.S)
    assert run is not None
    (folder / "run.yaml").write_text(run.group(1))
    return folder


@pytest.fixture(scope="module")
def up(checkout: Path) -> Iterator["subprocess.Popen[str]"]:
    """`retouche up`, stopped with Ctrl-C when the tests are done."""
    if taken := [port for port in default_ports().values() if _answers(port)]:
        message = f"port {taken[0]} is taken: another Retouche is running here"
        pytest.fail(message) if os.environ.get("CI") else pytest.skip(message)
    process = subprocess.Popen(shlex.split(UP), cwd=checkout, stderr=subprocess.PIPE, text=True)
    assert process.stderr is not None
    for line in process.stderr:
        if line.startswith("ready"):
            break
    assert process.poll() is None, "retouche up ended before it was ready"
    try:
        yield process
    finally:
        if process.poll() is None:
            process.kill()


def _answers(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def test_commands_run_as_written(up: "subprocess.Popen[str]", checkout: Path) -> None:
    assert up.poll() is None
    for command in OTHERS:
        written = command.replace("JOB", _newest(checkout, "jobs")).replace("RUN", _newest(checkout, "runs"))
        done = subprocess.run(shlex.split(written), cwd=checkout, capture_output=True, text=True, check=False)
        assert done.returncode == 0, f"{written}\n{done.stderr}"
    for file in ("pairs.parquet", "sheet.png", "lora/pytorch_lora_weights.safetensors", "evaluation.html"):
        assert (checkout / file).stat().st_size > 0, file


def _newest(checkout: Path, kind: str) -> str:
    """The identifier of the newest job or run; empty where there is none yet."""
    listing = [".venv/bin/retouche", kind, "list", "--json"]
    done = subprocess.run(listing, cwd=checkout, capture_output=True, text=True, check=True)
    found = json.loads(done.stdout)
    return str(found[0]["id"]) if found else ""


def test_control_c_leaves_no_process_behind(up: "subprocess.Popen[str]") -> None:
    up.send_signal(signal.SIGINT)
    assert up.wait(timeout=60) == 0
    for _ in range(100):
        if not any(_answers(port) for port in default_ports().values()):
            return
        time.sleep(0.1)
    raise AssertionError("something still listens")
