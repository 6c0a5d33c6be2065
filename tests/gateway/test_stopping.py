"""A gateway that is told to stop ends soon, even while somebody follows a job."""

import signal

import httpx2

from bench.processes import free_port
from retouche.store import ObjectStore
from tests.live import process


def test_streams_end_when_the_gateway_is_told_to_stop(store: ObjectStore, redis_url: str) -> None:
    port = free_port()
    environment = {
        "RETOUCHE_STORE": store.url,
        "RETOUCHE_REDIS_URL": redis_url,
        "RETOUCHE_GATEWAY_PORT": str(port),
    }
    with (
        process("gateway", port, environment) as gateway,
        httpx2.Client(base_url=f"http://127.0.0.1:{port}", trust_env=False, timeout=30) as client,
    ):
        job = client.post("/v1/jobs", json={"prompts": ["a red circle"]}).json()["id"]
        with client.stream("GET", f"/v1/jobs/{job}/events") as following:
            lines = following.iter_lines()
            assert next(lines) == "event: progress"
            gateway.send_signal(signal.SIGTERM)
            assert [line for line in lines if line.startswith("event:")] == []
        assert gateway.wait(timeout=30) in (0, -signal.SIGTERM)
