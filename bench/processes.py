"""What a benchmark measures runs in processes of its own, as in production: started, ready, ended."""

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import httpx2

from retouche.local.system import HOST
from serving.model_process import ALLOCATOR

_READY_SECONDS = 600.0  # large models take their time
_END_SECONDS = 60.0


def free_port() -> int:
    """A port that was free a moment ago."""
    with socket.create_server((HOST, 0)) as probe:
        return int(probe.getsockname()[1])


def keep_memory() -> None:
    """Start this program anew, once, with the C library's settings of the services' model processes.

    Without them the same model takes longer, and a service would be compared with less.
    """
    if not os.environ.keys() >= ALLOCATOR.keys():
        os.execve(sys.executable, sys.orig_argv, ALLOCATOR | os.environ)


@contextmanager
def started(
    *command: str, environment: Mapping[str, str] | None = None
) -> Iterator["subprocess.Popen[bytes]"]:
    """`python -m COMMAND`, ended when the block is left; `environment` comes on top of ours."""
    process = subprocess.Popen([sys.executable, "-m", *command], env=os.environ | (environment or {}))
    try:
        yield process
    finally:
        process.terminate()
        process.wait(_END_SECONDS)


@contextmanager
def served(
    port: int, *command: str, environment: Mapping[str, str] | None = None, probe: str = "/readyz"
) -> Iterator[str]:
    """`python -m COMMAND`, which listens at `port`; yields its address once it is ready.

    Raises:
        RuntimeError: it ended before, or was not ready in time, or something else listens there.
    """
    url = f"http://{HOST}:{port}"
    if _is_ready(f"{url}{probe}"):
        raise RuntimeError(f"something else is served at {url}; end it, or choose another port")
    with started(*command, environment=environment) as process:
        wait_until_ready(url, process, probe)
        yield url


def wait_until_ready(url: str, process: "subprocess.Popen[bytes]", probe: str = "/readyz") -> None:
    """RuntimeError once the process has ended, or if it is not ready in time."""
    end = time.monotonic() + _READY_SECONDS
    while not _is_ready(f"{url}{probe}"):
        if process.poll() is not None:
            raise RuntimeError(f"{process.args!r} ended with code {process.returncode} before it was ready")
        if time.monotonic() > end:
            raise RuntimeError(f"{url} was not ready within {_READY_SECONDS:.0f} s")
        time.sleep(0.05)


def _is_ready(address: str) -> bool:
    try:
        return httpx2.get(address, trust_env=False).is_success
    except httpx2.TransportError:
        return False
