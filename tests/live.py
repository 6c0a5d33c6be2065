"""An application under a real uvicorn: in a thread of the test, or as the process it is in production."""

import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import uvicorn
from starlette.types import ASGIApp

from bench.processes import wait_until_ready


@contextmanager
def live(app: ASGIApp, host: str = "127.0.0.1", port: int = 0) -> Iterator[str]:
    """Serve `app`; yields its address."""
    listener = socket.socket()
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # a server may come back where it was
    listener.bind((host, port))
    server = uvicorn.Server(uvicorn.Config(app, log_level="warning", timeout_graceful_shutdown=1))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
    thread.start()
    try:
        while not server.started:
            if not thread.is_alive():
                raise RuntimeError("uvicorn ended before it served")
            time.sleep(0.01)
        yield f"http://{host}:{listener.getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join(timeout=10)
        listener.close()


@contextmanager
def process(module: str, port: int, environment: Mapping[str, str]) -> Iterator["subprocess.Popen[bytes]"]:
    """`python -m module`, which serves at `port`, once it is ready; killed when the block is left."""
    served = subprocess.Popen([sys.executable, "-m", module], env=os.environ | environment)
    try:
        wait_until_ready(f"http://127.0.0.1:{port}", served)
        yield served
    finally:
        served.kill()
        served.wait()
