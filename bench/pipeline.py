"""How near the pipeline comes to what its slowest service can do.

Stub services of fixed latency and capacity run in a process each; each of the five stages is made the
bottleneck in turn. One shard of 64 prompts is curated from its first request to its last pair, the filling
and emptying of the pipeline included. What the bottleneck alone can do is arithmetic: its calls times its
latency, divided by its capacity. In a last row no service lets anything wait: it takes what it has capacity
for and answers 429 to the rest. The sequential client makes one call at a time, for fewer prompts.
"""

import asyncio
import json
import os
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace

from bench.processes import started, wait_until_ready
from bench.stub_services import Stage
from retouche.client.stages import StageClient
from retouche.contract.jobs import SHARD_PROMPTS, CurationSpec, JobReport
from retouche.contract.stages import STAGES
from retouche.local.system import HOST, free_ports
from worker.curate import ShardPrompts, curate
from worker.limits import Limit
from worker.prepare import prepare
from worker.settings import Settings

PROMPTS = [f"a square, number {index}" for index in range(SHARD_PROMPTS)]
SPEC = CurationSpec(
    prompts=tuple(PROMPTS), images_per_prompt=4, instructions_per_image=1, edits_per_instruction=1
)
SLOW = Stage(latency_seconds=0.64, capacity=8)
QUICK = Stage(latency_seconds=0.05, capacity=16)
SEQUENTIAL_PROMPTS = 2
REFUSING = "editing"  # the bottleneck of the last row, in which nothing may wait in any service
BAR = 0.93


@dataclass(frozen=True)
class Measured:
    """One shard with `bottleneck` slow: images a second, and as a ratio of what that service can do."""

    bottleneck: str
    images_per_second: float
    ratio: float
    sequential_ratio: float


def main() -> None:
    """Measure, print the table and the line of JSON; exit with 1 below the bar."""
    print(
        f"{len(PROMPTS)} prompts, {SPEC.images_per_prompt} images each; bar {BAR}; "
        f"load of this machine {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores"
    )
    print(f"{'bottleneck':<18} {'images/s':>8} {'of what it can do':>18} {'sequential':>11}")
    measured = []
    for stage in STAGES:
        found = measure(stage)
        measured.append(found)
        _show(stage, found)
    refusing = measure(REFUSING, waiting=0)
    _show(f"{REFUSING}, refusing", refusing)
    ratios = {found.bottleneck: round(found.ratio, 4) for found in measured}
    sequential = {found.bottleneck: round(found.sequential_ratio, 4) for found in measured}
    line = {"ratios": ratios, "refusing_ratio": round(refusing.ratio, 4), "sequential_ratios": sequential}
    print(json.dumps({"benchmark": "pipeline", **line}))
    sys.exit(min(ratios.values()) < BAR)


def _show(name: str, found: Measured) -> None:
    shares = f"{found.ratio:>18.1%} {found.sequential_ratio:>11.1%}"
    print(f"{name:<18} {found.images_per_second:>8.1f} {shares}", flush=True)


def measure(bottleneck: str, waiting: int = Stage().waiting) -> Measured:
    """A prompt that warms the services up, the sequential client, then one shard, with `bottleneck` slow.

    `waiting`: how many calls may wait in each service; it answers 429 beyond.
    """
    made = {stage: SLOW if stage == bottleneck else QUICK for stage in STAGES}
    stages = {stage: replace(each, waiting=waiting) for stage, each in made.items()}
    most = Settings().most_in_flight
    with served(stages) as urls:
        others = [f"{prompt}, before" for prompt in PROMPTS[:SEQUENTIAL_PROMPTS]]
        asyncio.run(_curate(urls, ["a first prompt, not counted"], 1, one_by_one=True))
        few, sequential_seconds = asyncio.run(_curate(urls, others, 1, one_by_one=True))
        report, seconds = asyncio.run(_curate(urls, PROMPTS, most))
    return Measured(
        bottleneck,
        report.images / seconds,
        _least_seconds(report, bottleneck) / seconds,
        _least_seconds(few, bottleneck) / sequential_seconds,
    )


async def _curate(
    urls: Mapping[str, str], prompts: list[str], most: int, *, one_by_one: bool = False
) -> tuple[JobReport, float]:
    """Curate `prompts`, as a shard or each by itself; returns the report and the seconds it took."""
    limits = {stage: Limit(stage, most, patience_seconds=60) for stage in STAGES}
    spec = SPEC.model_copy(update={"images_per_prompt": 1}) if one_by_one else SPEC
    parts = [[prompt] for prompt in prompts] if one_by_one else [prompts]
    async with StageClient(urls) as client:
        curation = await prepare(spec, client, limits)
        began = time.perf_counter()
        for part in parts:
            await curate(curation, ShardPrompts(part, 0, [0] * len(part)))
        return curation.report, time.perf_counter() - began


def _least_seconds(report: JobReport, bottleneck: str) -> float:
    return report.stages[bottleneck].done * SLOW.latency_seconds / SLOW.capacity


@contextmanager
def served(stages: Mapping[str, Stage]) -> Iterator[dict[str, str]]:
    """Every stage's stub in a process of its own; yields their addresses."""
    free = free_ports()
    urls = {stage: f"http://{HOST}:{free[stage]}" for stage in STAGES}
    with tempfile.TemporaryDirectory() as store, ExitStack() as processes:
        stubs = {}
        for stage, made in stages.items():
            values = json.dumps({stage: [made.latency_seconds, made.capacity, made.waiting]})
            place = ["--store", store, "--port", str(free[stage])]
            stub = started("bench.stub_services", *place, "--stages", values)
            stubs[stage] = processes.enter_context(stub)
        for stage, url in urls.items():
            wait_until_ready(url, stubs[stage])
        yield urls


if __name__ == "__main__":
    main()
