"""`python -m bench.services`: generation, editing and reward under concurrent callers, against their models.

`ratios`: images a second over HTTP with CALLERS callers, divided by the best that static batches of the same
model reach in one process. Every request has a seed or an image of its own, so that nothing is remembered.
The two are measured in turn, never at once. Set OMP_NUM_THREADS to give both the same cores.
"""

import argparse
import asyncio
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import httpx2
from PIL import Image
from rich.console import Console
from rich.table import Table

from retouche.contract.stages import EditInstruction, EditRequest, GenerateRequest, RewardRequest
from retouche.images import encode
from retouche.store import ObjectStore, run
from services.editing import model as editing
from services.editing.editor import Edit
from services.generation import model as generation
from services.reward import model as reward
from services.reward.reward_model import Judged
from serving.profile import Profile, load_profile

CALLERS = 32
SIZES = (1, 2, 4, 8, 16, 32)
PROMPT = "a red circle above a blue square on a gray background"
RECOLOR = EditInstruction(action="recolor", target="the circle", text="make the red circle green")


@dataclass(frozen=True)
class Stage:
    """One service: its path, its requests, and its model in this process."""

    path: str
    requests: Sequence[GenerateRequest | EditRequest | RewardRequest]
    model: Callable[[Sequence[Any]], Any]
    items: Sequence[Any]


def pictures(count: int) -> list[Image.Image]:
    """Pictures that all differ."""
    return [Image.new("RGB", (64, 64), (index % 256, index // 256, 128)) for index in range(count)]


def stages(profile: Profile, store: ObjectStore, count: int) -> dict[str, Stage]:
    """The services' requests, their images stored, and what their models get for them."""
    shown = pictures(count)
    references = [run(store.put_image(encode(picture))) for picture in shown]
    pipeline = generation.load(profile.generation)
    draws = [GenerateRequest(prompt=PROMPT, seed=seed) for seed in range(count)]
    resolved = [generation.resolved(draw, profile.generation, pipeline) for draw in draws]
    edits = [
        EditRequest(prompt=PROMPT, image=reference, instruction=RECOLOR, seed=0) for reference in references
    ]
    complete = [editing.resolved(request, profile.editing) for request in edits]
    name, scorer = next(iter(reward.load(profile.rewards).items()))

    def draw(requests: Sequence[GenerateRequest]) -> list[Image.Image]:
        return generation.generate(pipeline, requests)

    return {
        "generation": Stage("/v1/generate", draws, draw, resolved),
        "editing": Stage(
            "/v1/edit",
            edits,
            editing.load(profile.editing),
            [Edit(picture, RECOLOR.text, request) for picture, request in zip(shown, complete, strict=True)],
        ),
        "reward": Stage(
            "/v1/reward",
            [RewardRequest(prompt=PROMPT, images=[reference], rewards=[name]) for reference in references],
            scorer,
            [Judged(PROMPT, picture) for picture in shown],
        ),
    }


def static_rate(stage: Stage) -> float:
    """Images a second of the model alone, at its best batch size."""
    return max(_rate_at(stage, size) for size in SIZES)


def _rate_at(stage: Stage, size: int) -> float:
    stage.model(stage.items[:size])  # warm
    began = time.perf_counter()
    for begin in range(0, len(stage.items), size):
        stage.model(stage.items[begin : begin + size])
    return len(stage.items) / (time.perf_counter() - began)


@contextmanager
def served(name: str, port: int, profile: str, store: str) -> Iterator[str]:
    """The service in a process of its own; yields its address once it is ready."""
    settings = {
        "RETOUCHE_PROFILE": profile,
        "RETOUCHE_STORE": store,
        f"RETOUCHE_{name.upper()}_PORT": str(port),
    }
    command = [sys.executable, "-m", f"services.{name}"]
    process = subprocess.Popen(command, env=os.environ | settings)
    try:
        _until_ready(process, f"http://127.0.0.1:{port}")
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait(timeout=60)


def _until_ready(process: "subprocess.Popen[bytes]", url: str) -> None:
    while process.poll() is None:
        try:
            if httpx2.get(f"{url}/readyz", trust_env=False).status_code == 200:
                return
        except httpx2.TransportError:
            pass
        time.sleep(0.2)
    raise RuntimeError(f"{process.args!r} ended before it was ready")


async def served_rate(url: str, stage: Stage) -> float:
    """Answers a second with CALLERS callers, each asking again as soon as it is answered."""
    waiting = iter(stage.requests)
    async with httpx2.AsyncClient(base_url=url, timeout=600, trust_env=False) as client:

        async def call() -> None:
            for request in waiting:
                body = request.model_dump_json(exclude_defaults=True).encode()
                answer = await client.post(
                    stage.path, content=body, headers={"content-type": "application/json"}
                )
                answer.raise_for_status()

        began = time.perf_counter()
        await asyncio.gather(*(call() for _ in range(CALLERS)))
        return len(stage.requests) / (time.perf_counter() - began)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--profile", default="shapes")
    parser.add_argument("--requests", type=int, default=512)
    parser.add_argument("--port", type=int, default=8790)
    options = parser.parse_args()
    table = Table("service", "model alone, images/s", f"{CALLERS} callers, images/s", "ratio")
    ratios = {}
    with tempfile.TemporaryDirectory() as folder:
        profile, store = load_profile(options.profile), ObjectStore(folder)
        for name, stage in stages(profile, store, options.requests).items():
            alone = static_rate(stage)
            with served(name, options.port, options.profile, folder) as url:
                together = asyncio.run(served_rate(url, stage))
            ratios[name] = round(together / alone, 3)
            table.add_row(name, f"{alone:.1f}", f"{together:.1f}", f"{ratios[name]:.3f}")
    Console().print(table)
    print(json.dumps({"benchmark": "services", "callers": CALLERS, "ratios": ratios}))


if __name__ == "__main__":
    main()
