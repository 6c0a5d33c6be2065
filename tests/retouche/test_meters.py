"""What forked processes tell reaches Prometheus through the process that they were forked from."""

import multiprocessing
import socket

import httpx2
from prometheus_client import CollectorRegistry

from retouche.meters import export, tell
from retouche.metrics import TrainerMetrics
from tests.until import until


def test_a_forked_process_is_heard() -> None:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port = int(listener.getsockname()[1])
    registry = CollectorRegistry()
    export(TrainerMetrics(registry), registry, "127.0.0.1", port)
    for loss in (0.75, 0.5):
        process = multiprocessing.get_context("fork").Process(target=tell, args=("loss", loss))
        process.start()
        process.join()
    address = f"http://127.0.0.1:{port}"
    until(lambda: "retouche_training_loss 0.5" in httpx2.get(address, trust_env=False).text)
