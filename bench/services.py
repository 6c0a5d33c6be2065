"""`python -m bench.services`: every service under concurrent callers, against its model alone.

`ratios`: items a second over HTTP with CALLERS callers, divided by what static batches of the same model
reach in this process at the best of SIZES. An item is an image made, a question answered, an image scored.
Both are measured in turn, never at once, in ROUNDS rounds, so that a machine that slows down slows both.
Every request has a seed or images of its own: nothing is remembered. OMP_NUM_THREADS gives both their cores,
though a service prepares items beside the model that here waits for them; the C library keeps memory on both
sides as in the services' model processes.
"""

import argparse
import asyncio
import json
import random
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import uvloop
from PIL import Image
from pydantic import BaseModel
from rich.console import Console
from rich.table import Table

from bench import processes
from bench.callers import Caller
from retouche.contract.stages import (
    Critique,
    CritiqueRequest,
    EditInstruction,
    EditRequest,
    Finding,
    GenerateRequest,
    InstructRequest,
    RewardRequest,
)
from retouche.errors import ModelFailure
from retouche.images import encode
from retouche.profile import Profile, load_profile, located
from retouche.store import ObjectStore, run
from services.critique import messages as critique
from services.editing import model as editing
from services.editing.editor import Edit
from services.generation import model as generation
from services.instruction import messages as instruction
from services.reward import model as reward
from services.reward.judged import Judged
from services.vlm import local as vlm
from services.vlm.chat import Asked
from shapes.prompts import train_scenes
from shapes.render import render
from shapes.scene import random_layout

CALLERS = 32
SIZES = (4, 8, 16, 32)
ROUNDS = 8
_ANSWER_IN_WORDS = ("/v1/critique", "/v1/instruct")
_MODEL_FAILURE = ModelFailure.code.encode()  # an answer out of its schema takes the model as long
SHARES = {  # of --requests: a round of seconds, so that the first and the last batch weigh little
    "generation": 0.5,
    "critique": 1.0,
    "instruction": 4.0,
    "editing": 0.5,
    "reward": 4.0,
}
IMAGES_SCORED = 4  # in one request, as the pipeline asks: an image and its edits
PROMPT = "a red circle above a blue square on a gray background"
RECOLOR = EditInstruction(action="recolor", target="the circle", text="make the red circle green")
CRITIQUE = Critique(
    description="a blue circle above a blue square on a gray background",
    findings=(Finding(aspect="color", subject="the top blue circle", problem="is blue, not red"),),
)


@dataclass(frozen=True)
class Stage:
    """One service: its path, its requests, and its model in this process with the items of all requests."""

    path: str
    requests: Sequence[BaseModel]
    model: Callable[[Sequence[Any]], Any]
    items: Sequence[Any]

    def part(self, number: int) -> "Stage":
        """One of ROUNDS equal parts; the last CALLERS requests are in none, they warm the service up."""
        requests = (len(self.requests) - CALLERS) // ROUNDS
        each = len(self.items) // len(self.requests)
        return replace(
            self,
            requests=self.requests[number * requests : (number + 1) * requests],
            items=self.items[number * requests * each : (number + 1) * requests * each],
        )


def pictures(count: int) -> list[Image.Image]:
    """Pictures that all differ."""
    rng, scenes = random.Random(0), train_scenes()
    shown = [rng.choice(scenes) for _ in range(count)]
    return [Image.fromarray(render(scene, random_layout(scene, rng))) for scene in shown]


def stages(profile: Profile, store: ObjectStore, scale: int, names: Sequence[str]) -> Iterator[Stage]:
    """The services of `names` one by one: only one model is in this process at a time."""
    counts = {name: ROUNDS * max(CALLERS, int(scale * SHARES[name]) // ROUNDS) + CALLERS for name in names}
    for name in names:
        if name == "generation":
            yield _generation(profile, counts[name])
            continue
        shown = pictures(counts[name] * (IMAGES_SCORED if name == "reward" else 1))
        encoded = [encode(picture) for picture in shown]
        references = [run(store.put_image(each)) for each in encoded]
        if name == "critique":
            yield _critique(profile, encoded, references)
        elif name == "instruction":
            yield _instruction(profile, encoded, references)
        elif name == "editing":
            yield _editing(profile, shown, references)
        else:
            yield _reward(profile, shown, references)


def _generation(profile: Profile, count: int) -> Stage:
    pipeline = generation.load(profile.generation)
    draws = [GenerateRequest(prompt=PROMPT, seed=seed) for seed in range(count)]
    resolved = [generation.resolved(draw, profile.generation, pipeline) for draw in draws]
    return Stage("/v1/generate", draws, partial(generation.generate, pipeline), resolved)


def _critique(profile: Profile, encoded: Sequence[bytes], references: Sequence[str]) -> Stage:
    chosen = profile.critique
    model = vlm.load(located(chosen.model), chosen.revision, chosen.dtype, chosen.max_answer_tokens)
    requests = [CritiqueRequest(prompt=PROMPT, image=reference) for reference in references]
    return Stage("/v1/critique", requests, model, [Asked(critique.ask(PROMPT), each) for each in encoded])


def _instruction(profile: Profile, encoded: Sequence[bytes], references: Sequence[str]) -> Stage:
    chosen = profile.instruction
    model = vlm.load(located(chosen.model), chosen.revision, chosen.dtype, chosen.max_answer_tokens)
    requests = [
        InstructRequest(prompt=PROMPT, image=reference, critique=CRITIQUE) for reference in references
    ]
    question = instruction.ask(PROMPT, CRITIQUE)
    return Stage("/v1/instruct", requests, model, [Asked(question, each) for each in encoded])


def _editing(profile: Profile, shown: Sequence[Image.Image], references: Sequence[str]) -> Stage:
    requests = [
        EditRequest(prompt=PROMPT, image=reference, instruction=RECOLOR, seed=0) for reference in references
    ]
    complete = [editing.resolved(request, profile.editing) for request in requests]
    items = [Edit(picture, RECOLOR.text, request) for picture, request in zip(shown, complete, strict=True)]
    return Stage("/v1/edit", requests, editing.load(profile.editing), items)


def _reward(profile: Profile, shown: Sequence[Image.Image], references: Sequence[str]) -> Stage:
    name, scorer = next(iter(reward.load(profile.rewards).items()))
    requests = [
        RewardRequest(prompt=PROMPT, images=list(references[begin : begin + IMAGES_SCORED]), rewards=[name])
        for begin in range(0, len(references), IMAGES_SCORED)
    ]
    return Stage("/v1/reward", requests, scorer, [Judged(PROMPT, picture) for picture in shown])


def best_size(stage: Stage, console: Console) -> int:
    """The batch size at which the model alone is quickest, by its best of two tries of each."""
    stage.model(stage.items[: min(SIZES)])  # warm
    sample = replace(stage, items=stage.items[: max(SIZES)])
    tries = [{size: static_seconds(sample, size) for size in SIZES} for _ in range(2)]
    rates = {size: len(sample.items) / min(each[size] for each in tries) for size in SIZES}
    shown = ", ".join(f"{rate:.1f}/s in batches of {size}" for size, rate in rates.items())
    console.print(f"  alone, at a glance: {shown}", style="dim")
    return max(SIZES, key=rates.__getitem__)


def static_seconds(stage: Stage, size: int) -> float:
    """What the model alone takes for every item, in batches of `size`."""
    began = time.perf_counter()
    for begin in range(0, len(stage.items), size):
        stage.model(stage.items[begin : begin + size])
    return time.perf_counter() - began


def served(name: str, port: int, profile: str, store: str) -> AbstractContextManager[str]:
    """The address of the service, once it is ready."""
    environment = {
        "RETOUCHE_PROFILE": profile,
        "RETOUCHE_STORE": store,
        f"RETOUCHE_{name.upper()}_PORT": str(port),
    }
    return processes.served(port, f"services.{name}", environment=environment)


async def served_seconds(url: str, stage: Stage, callers: int = CALLERS) -> float:
    """What the service takes for every request of so many callers, each asking again as soon as answered."""
    bodies = iter([request.model_dump_json(exclude_defaults=True).encode() for request in stage.requests])
    began = time.perf_counter()
    await asyncio.gather(*(_call(url, stage.path, bodies) for _ in range(callers)))
    return time.perf_counter() - began


async def _call(url: str, path: str, bodies: Iterator[bytes]) -> None:
    caller = await Caller.connect(url)
    for body in bodies:
        status, content = await caller.ask(path, body)
        if status != 200 and not (path in _ANSWER_IN_WORDS and _MODEL_FAILURE in content):
            raise RuntimeError(f"{path} answered {content.decode()}")
    await caller.leave()


def measure(stage: Stage, url: str, size: int) -> tuple[float, float]:
    """Items a second: the model alone in batches of `size`, and the service at `url`."""
    uvloop.run(served_seconds(url, replace(stage, requests=stage.requests[-CALLERS:])))
    parts = [stage.part(number) for number in range(ROUNDS)]
    pairs = [(static_seconds(part, size), uvloop.run(served_seconds(url, part))) for part in parts]
    items = sum(len(part.items) for part in parts)
    return items / sum(alone for alone, _ in pairs), items / sum(served for _, served in pairs)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--profile", default="shapes")
    parser.add_argument("--requests", type=int, default=512, help="quick services get more, slow ones fewer")
    parser.add_argument("--port", type=int, default=8790)
    parser.add_argument("--only", nargs="+", choices=SHARES, default=list(SHARES), metavar="SERVICE")
    options = parser.parse_args()
    processes.keep_memory()
    names: list[str] = options.only
    console = Console(stderr=True)
    table = Table("service", "batch", "model alone, items/s", f"{CALLERS} callers, items/s", "ratio")
    ratios = {}
    with tempfile.TemporaryDirectory() as folder:
        profile, store = load_profile(options.profile), ObjectStore(folder)
        for name, stage in zip(names, stages(profile, store, options.requests, names), strict=True):
            console.print(f"{name}: {len(stage.items)} items")
            size = best_size(stage, console)
            with served(name, options.port, options.profile, folder) as url:
                alone, together = measure(stage, url, size)
            ratios[name] = round(together / alone, 3)
            console.print(
                f"  {alone:.1f}/s alone in batches of {size}, {together:.1f}/s served, ratio {ratios[name]}"
            )
            table.add_row(name, str(size), f"{alone:.1f}", f"{together:.1f}", f"{ratios[name]:.3f}")
    console.print(table)
    print(json.dumps({"benchmark": "services", "callers": CALLERS, "ratios": ratios}))


if __name__ == "__main__":
    main()
