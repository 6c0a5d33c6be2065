"""A process that is told to stop answers everything it has accepted, and nothing else."""

import asyncio
import signal
import subprocess
import sys
import time

import httpx2
import pytest

from bench.processes import free_port

SERVICE = """
import asyncio, sys
from fastapi import APIRouter
from retouche.contract.services import Readiness
from serving.app import create_app
from serving.process import serve
router, accepted = APIRouter(), []

@router.get("/slow")
async def slow() -> str:
    accepted.append(True)
    await asyncio.sleep(2)
    return "done"

@router.get("/accepted")
async def count() -> int:
    return len(accepted)

async def nothing() -> None: ...
async def load(app): return Readiness(), nothing
serve(create_app("slow", router, load), "127.0.0.1", int(sys.argv[1]))
"""


async def stopped_with(calls: int, port: int, service: "subprocess.Popen[bytes]") -> list[str]:
    async with httpx2.AsyncClient(base_url=f"http://127.0.0.1:{port}", trust_env=False, timeout=60) as client:
        answers = [asyncio.ensure_future(client.get("/slow")) for _ in range(calls)]
        for _ in range(1000):
            if (await client.get("/accepted")).json() == calls:
                break
        service.send_signal(signal.SIGTERM)
        return [answer.json() for answer in await asyncio.gather(*answers)]


def test_what_was_accepted_is_answered() -> None:
    port = free_port()
    service = subprocess.Popen([sys.executable, "-c", SERVICE, str(port)])
    try:
        while not _listens(port):
            assert service.poll() is None
            time.sleep(0.1)
        assert asyncio.run(stopped_with(20, port, service)) == ["done"] * 20
        assert service.wait(timeout=30) in (0, -signal.SIGTERM)
        with pytest.raises(httpx2.ConnectError):
            httpx2.get(f"http://127.0.0.1:{port}/slow", trust_env=False)
    finally:
        service.kill()


def _listens(port: int) -> bool:
    try:
        return httpx2.get(f"http://127.0.0.1:{port}/healthz", trust_env=False).is_success
    except httpx2.TransportError:
        return False
