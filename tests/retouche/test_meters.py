"""What forked processes tell reaches Prometheus through the process that they were forked from."""

import multiprocessing
import os
import signal
import socket
import time
from multiprocessing.connection import Connection

import httpx2
from prometheus_client import CollectorRegistry

from bench.processes import free_port
from retouche.meters import export, tell
from retouche.metrics import TrainerMetrics
from tests.until import until

FORK = multiprocessing.get_context("fork")


def test_a_forked_process_is_heard() -> None:
    port = free_port()
    registry = CollectorRegistry()
    export(TrainerMetrics(registry), registry, "127.0.0.1", port)
    for loss in (0.75, 0.5):
        process = FORK.Process(target=tell, args=("loss", loss))
        process.start()
        process.join()
    address = f"http://127.0.0.1:{port}"
    until(lambda: "retouche_training_loss 0.5" in httpx2.get(address, trust_env=False).text)


def test_a_work_horse_that_outlives_its_worker_leaves_the_port_to_the_next() -> None:
    port, (told, telling) = free_port(), FORK.Pipe(duplex=False)
    worker = FORK.Process(target=die_leaving_a_child, args=(port, telling))
    worker.start()
    worker.join()
    left_alone = told.recv()
    try:
        with socket.socket() as listener:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind(("127.0.0.1", port))
            listener.listen()
    finally:
        os.kill(left_alone, signal.SIGKILL)


def die_leaving_a_child(port: int, telling: Connection) -> None:
    registry = CollectorRegistry()
    export(TrainerMetrics(registry), registry, "127.0.0.1", port)
    child = FORK.Process(target=time.sleep, args=(60,))
    child.start()
    telling.send(child.pid)
    os._exit(1)
