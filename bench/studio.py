"""`python -m bench.studio`: a page of the studio's pair browser out of 100,000 pairs.

`ratio`: the slowest question's median time at a real gateway, in milliseconds, divided by the goal of 100 ms;
below 1 it is kept. What is timed is a whole call of the SDK: HTTP, search, the page's pairs as JSON and back.
Pairs are made up, as varied as real ones; the first call of all, which reads every shard, is told apart, and
so is the first one of a gateway that starts again, which reads one file.
Where there is a Chromium, `first_content_ms` is the median time until the studio's page, opened by a visitor
who was never there, shows what the services do.
"""

import argparse
import asyncio
import hashlib
import json
import random
import shutil
import socket
import statistics
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from datetime import UTC, datetime
from pathlib import Path

import uvicorn
from fastapi import FastAPI
from playwright.sync_api import sync_playwright
from rich.console import Console
from rich.table import Table

from bench import processes
from bench.processes import free_port
from gateway.app import create_app
from gateway.settings import Settings
from retouche.client import Retouche
from retouche.contract.jobs import (
    SHARD_PROMPTS,
    CurationSpec,
    JobRecord,
    JobReport,
    ModelIdentities,
    PreferencePair,
)
from retouche.contract.pair_search import PairQuery
from retouche.contract.payload import LOCAL, ModelIdentity
from retouche.contract.stages import Critique, EditInstruction, Finding
from retouche.pairs import write_pairs
from retouche.reviews import record_review
from retouche.store import ObjectStore, job_path, shard_path
from retouche.tenancy import own

GOAL_MS = 100
DECISIONS = 1000
_REWARDS = ("pickscore", "imagereward", "hpsv2", "aesthetic")
_ACTIONS = ("recolor", "reshape", "replace", "add", "remove", "move", "background", "restyle", "refine")
_NOUNS = "castle river fox lantern violin harbour orchard glacier market bridge teapot comet".split()
_WORDS = "old misty golden broken tiny crowded quiet burning frozen painted floating striped".split()

QUESTIONS = {
    "first page": PairQuery(),
    "last page": PairQuery(offset=99_000),
    "words": PairQuery(text="golden fox"),
    "a word that nothing has": PairQuery(text="zeppelin"),
    "clearest first": PairQuery(order="margin", descending=True),
    "most disagreement first": PairQuery(order="disagreement", descending=True),
    "everything at once": PairQuery(
        text="fox", action="recolor", min_margin=0.2, decision="none", order="disagreement", descending=True
    ),
    "undecided, of one reward model": PairQuery(decision="none", reward="hpsv2", order="margin"),
    "the largest page": PairQuery(limit=100, order="margin"),
}


def made_up(rng: random.Random, index: int) -> PreferencePair:
    """A pair as long as real ones are, with scores of four reward models."""
    subject = f"the {rng.choice(_WORDS)} {rng.choice(_NOUNS)}"
    action = rng.choice(_ACTIONS)
    images = ["sha256:" + hashlib.sha256(f"{index}{side}".encode()).hexdigest() for side in "ab"]
    scores = [{name: rng.random() for name in _REWARDS} for _ in range(2)]
    model = {
        name: ModelIdentity(id=f"example/{name}-large-model", revision="0123456789abcdef")
        for name in _REWARDS
    }
    return PreferencePair(
        id=hashlib.sha256(str(index).encode()).hexdigest()[:32],
        prompt=f"{subject} beside a {rng.choice(_WORDS)} {rng.choice(_NOUNS)} at dusk, oil on canvas",
        chosen=images[0],
        rejected=images[1],
        chosen_is_edit=True,
        critique=Critique(
            description=f"{subject} in front of a wall, seen from far away, without anything beside it",
            findings=(Finding(aspect="object", subject=subject, problem="stands alone, and it should not"),),
        ),
        instruction=EditInstruction(action=action, target=subject, text=f"{action} {subject}"),
        chosen_scores=scores[0],
        rejected_scores=scores[1],
        models=ModelIdentities(
            generation=model["pickscore"],
            critique=model["hpsv2"],
            instruction=model["hpsv2"],
            editing=model["aesthetic"],
            rewards=model,
        ),
        generation_seed=index,
        editing_seed=index,
        prompt_index=index,
        image_index=0,
    )


async def fill(store: ObjectStore, pairs: int) -> str:
    """A finished job of so many pairs, DECISIONS of them reviewed."""
    rng, shards = random.Random(0), -(-pairs // SHARD_PROMPTS)
    spec = CurationSpec(prompts=("made up",), seed=pairs)
    job_id = spec.job_id(LOCAL)
    record = JobRecord(
        id=job_id,
        tenant=LOCAL,
        spec=spec,
        created_at=datetime.now(UTC),
        prompt_set="sha256:" + "0" * 64,
        prompts=pairs,
        shards=shards,
    )
    await store.create(job_path(job_id, "spec.json"), record.model_dump_json().encode())
    await own(store, LOCAL, "jobs", job_id)
    for shard in range(shards):
        first = shard * SHARD_PROMPTS
        found = [made_up(rng, index) for index in range(first, min(pairs, first + SHARD_PROMPTS))]
        content = write_pairs(found, JobReport(pairs=len(found)))
        await store.create(shard_path(job_id, "shards", shard), content)
        if shard % max(1, shards // DECISIONS) == 0:
            await record_review(store, job_id, found[0].id, "reject", "bench")
    return job_id


@contextmanager
def served(app: FastAPI) -> Iterator[str]:
    """The address of an application on a free port."""
    listener = socket.socket()
    listener.bind(("127.0.0.1", 0))
    server = uvicorn.Server(uvicorn.Config(app, log_level="error"))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
    thread.start()
    while not server.started:
        time.sleep(0.01)
    try:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join()


def milliseconds(client: Retouche, job_id: str, query: PairQuery) -> float:
    began = time.perf_counter()
    client.search_pairs(job_id, query)
    return (time.perf_counter() - began) * 1000


def studio_of(gateway: str) -> AbstractContextManager[str]:
    """The address of a studio, once it serves."""
    port = free_port()
    return processes.served(port, "studio", "--url", gateway, "--port", str(port), probe="/healthz")


def first_content_ms(chromium: str, gateway: str, rounds: int) -> float:
    """From the visitor's call to the first picture of the pipeline, with nothing in the browser's cache."""
    times = []
    with studio_of(gateway) as url, sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=["--headless", "--no-sandbox"])
        for _ in range(rounds):
            context = browser.new_context()
            page = context.new_page()
            began = time.perf_counter()
            page.goto(url, wait_until="commit")
            page.locator(".pipeline [data-stage]").first.wait_for()
            times.append((time.perf_counter() - began) * 1000)
            context.close()
        browser.close()
    return statistics.median(times)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pairs", type=int, default=100_000)
    parser.add_argument("--rounds", type=int, default=20)
    options = parser.parse_args()
    console = Console(stderr=True)
    table = Table("question", "median ms", "slowest ms", box=None)
    medians = {}
    with tempfile.TemporaryDirectory() as folder:
        console.print(f"making up {options.pairs:,} pairs")
        job_id = asyncio.run(fill(ObjectStore(str(Path(folder))), options.pairs))
        settings = Settings(store=folder, redis_url="redis://127.0.0.1:1/0", recover_seconds=3600)
        # Neither Redis nor services: looking at pairs needs neither.
        with served(create_app(settings)) as url, Retouche(url) as client:
            first = milliseconds(client, job_id, PairQuery())
            for name, query in QUESTIONS.items():
                times = [milliseconds(client, job_id, query) for _ in range(options.rounds)]
                medians[name] = round(statistics.median(times), 1)
                table.add_row(name, f"{medians[name]:.1f}", f"{max(times):.1f}")
            chromium = shutil.which("chromium")
            content = round(first_content_ms(chromium, url, 9)) if chromium else None
        with served(create_app(settings)) as url, Retouche(url) as client:
            again = milliseconds(client, job_id, PairQuery())
    console.print(table)
    console.print(f"the very first call, which reads every shard: {first:,.0f} ms")
    console.print(f"the first call after a start of the gateway: {again:,.0f} ms")
    console.print(f"the page's first content: {content} ms")
    told = {
        "benchmark": "studio",
        "pairs": options.pairs,
        "first_call_ms": round(first),
        "first_call_after_a_start_ms": round(again),
        "median_ms": medians,
    }
    told |= {"first_content_ms": content, "ratio": round(max(medians.values()) / GOAL_MS, 3)}
    print(json.dumps(told))


if __name__ == "__main__":
    main()
