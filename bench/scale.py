"""`python -m bench.scale`: one job of very many prompts, and what Redis and the gateway hold meanwhile.

The real gateway, workers and Redis, with services that answer at once (bench/light_services.py). The prompts
are sent as a stream; then the job's state is asked for every INTERVAL_SECONDS, as whoever watches it would,
until some of the prompts are done: all of them are hours where the cores are few (`--curate 1000000`).
`ratio` is the larger of Redis's memory and the gateway's resident memory at the end over the same at a tenth
of the run; `redis_bytes_a_shard` is what each shard in between left in Redis, which the ratio of a short run
hides: a million prompts are 15,625 shards.
"""

import argparse
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx2
from redis import Redis

from retouche.contract.jobs import SHARD_PROMPTS
from retouche.contract.stages import STAGES
from retouche.local import redis_binary
from retouche.local.process import Process
from retouche.local.system import HOST, free_ports

INTERVAL_SECONDS = 2.0
GOAL = 1.2
LINES = 12  # of the table
_IN_A_CHUNK = 1_000


@dataclass(frozen=True)
class Sample:
    """What was seen at one moment of the run."""

    seconds: float
    prompts: int
    redis_bytes: int
    gateway_bytes: int
    answer_seconds: float


def main() -> None:
    """Measure, print the table and the line of JSON; exit with 1 beyond the goal."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--prompts", type=int, default=1_000_000)
    parser.add_argument("--curate", type=int, default=12_800, help="of them, before the measurement ends")
    parser.add_argument("--workers", type=int, default=2)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, started(Path(folder), arguments.workers) as system:
        before = resident(system.gateway)
        began = time.monotonic()
        prompt_set = upload(system.client, arguments.prompts)
        uploaded = time.monotonic() - began
        grown = peak(system.gateway) - before
        print(
            f"{arguments.prompts:,} prompts sent in {uploaded:.1f} s; the gateway grew {grown / 1e6:.1f} MB"
        )
        samples = list(watched(system, prompt_set, arguments.curate))
    found = (
        {"prompts": arguments.prompts}
        | summary(samples)
        | {"upload_seconds": uploaded, "upload_bytes": grown}
    )
    show(samples)
    print(json.dumps({"benchmark": "scale", **{name: round(value, 4) for name, value in found.items()}}))
    sys.exit(found["ratio"] > GOAL)


@dataclass(frozen=True)
class System:
    client: httpx2.Client
    redis: "Redis"
    gateway: Process


@contextmanager
def started(folder: Path, workers: int) -> Iterator[System]:
    """Redis, one light process for all services, the gateway and the workers."""
    gateway_port, services_port, redis_port, *_ = free_ports().values()
    services = f"http://{HOST}:{services_port}"
    environment = {
        "RETOUCHE_STORE": str(folder / "store"),
        "RETOUCHE_REDIS_URL": f"redis://{HOST}:{redis_port}/0",
        "RETOUCHE_GATEWAY_PORT": str(gateway_port),
        **{f"RETOUCHE_{stage.upper()}_URL": services for stage in STAGES},
    }

    def module(log: str, *command: str) -> Process:
        return Process(log, [sys.executable, "-m", *command], folder / f"{log}.log", environment)

    redis = [str(redis_binary.find()), "--port", str(redis_port), "--dir", str(folder), "--save", ""]
    gateway = module("gateway", "gateway")
    processes = [
        Process("redis", redis, folder / "redis.log"),
        module("services", "bench.light_services", "--port", str(services_port)),
        gateway,
        *(module(f"worker-{number}", "worker") for number in range(workers)),
    ]
    try:
        for process in processes:
            process.start()
        with httpx2.Client(base_url=f"http://{HOST}:{gateway_port}", trust_env=False, timeout=600) as client:
            _until_ready(client)
            yield System(client, Redis(HOST, redis_port), gateway)
    finally:
        for process in reversed(processes):
            process.ask_to_stop()
            process.wait_or_kill()


def upload(client: httpx2.Client, prompts: int) -> str:
    """Send the prompts as a stream; returns the prompt set."""

    def lines() -> Iterator[bytes]:
        for begin in range(0, prompts, _IN_A_CHUNK):
            numbers = range(begin, min(begin + _IN_A_CHUNK, prompts))
            yield "".join(
                f"a red square above a blue circle, number {number}\n" for number in numbers
            ).encode()

    answer = client.post("/v1/prompts", content=lines(), headers={"content-type": "text/plain"})
    answer.raise_for_status()
    return str(answer.json()["prompt_set"])


def watched(system: System, prompt_set: str, curate: int) -> Iterator[Sample]:
    """Submit the job, and look at it until so many prompts are done."""
    spec = {"prompt_set": prompt_set, "instructions_per_image": 1}
    began = time.monotonic()
    submitted = system.client.post("/v1/jobs", json=spec)
    submitted.raise_for_status()
    while True:
        asked = time.monotonic()
        answer = system.client.get(f"/v1/jobs/{submitted.json()['id']}")
        answered = time.monotonic()
        answer.raise_for_status()
        job = answer.json()
        memory = system.redis.info("memory")
        yield Sample(
            answered - began,
            job["report"]["prompts"],
            int(memory["used_memory"]),
            resident(system.gateway),
            answered - asked,
        )
        assert job["state"] != "failed", job["error"]
        if job["state"] == "finished" or job["report"]["prompts"] >= curate:
            return
        time.sleep(INTERVAL_SECONDS)


def summary(samples: Sequence[Sample]) -> dict[str, float]:
    """The figures of the run."""
    last = samples[-1]
    tenth = next(sample for sample in samples if sample.prompts >= last.prompts / 10)
    redis, gateway = last.redis_bytes / tenth.redis_bytes, last.gateway_bytes / tenth.gateway_bytes
    answers = [sample.answer_seconds for sample in samples]
    shards = (last.prompts - tenth.prompts) / SHARD_PROMPTS
    return {
        "curated": last.prompts,
        "prompts_per_second": last.prompts / last.seconds,
        "redis_bytes": last.redis_bytes,
        "gateway_bytes": last.gateway_bytes,
        "redis_bytes_a_shard": (last.redis_bytes - tenth.redis_bytes) / max(1, shards),
        "redis_ratio": redis,
        "gateway_ratio": gateway,
        "answer_seconds_median": statistics.median(answers),
        "answer_seconds_worst": max(answers),
        "ratio": max(redis, gateway),
    }


def show(samples: Sequence[Sample]) -> None:
    """The curve: some LINES moments of the run."""
    print(f"{'seconds':>8} {'prompts':>10} {'a second':>10} {'Redis MB':>9} {'gateway MB':>11} {'ms':>6}")
    step = max(1, len(samples) // LINES)
    for sample in [*samples[:-1:step], samples[-1]]:
        print(
            f"{sample.seconds:>8.0f} {sample.prompts:>10,} {sample.prompts / sample.seconds:>10.0f} "
            f"{sample.redis_bytes / 1e6:>9.2f} {sample.gateway_bytes / 1e6:>11.1f} "
            f"{1000 * sample.answer_seconds:>6.1f}"
        )


def resident(process: Process) -> int:
    """Bytes of memory that the process has now."""
    return _status(process, "VmRSS")


def peak(process: Process) -> int:
    """Bytes of memory that the process has had at most."""
    return _status(process, "VmHWM")


def _status(process: Process, name: str) -> int:
    lines = Path(f"/proc/{process.pid}/status").read_text().splitlines()
    return next(1024 * int(line.split()[1]) for line in lines if line.startswith(f"{name}:"))


def _until_ready(client: httpx2.Client) -> None:
    for _ in range(600):
        try:
            if client.get("/readyz").is_success:
                return
        except httpx2.TransportError:
            pass
        time.sleep(0.1)
    raise RuntimeError("the gateway was not ready within a minute")


if __name__ == "__main__":
    main()
