"""`python -m bench.overload`: what `serving` costs around a model, and what it does when too much is asked.

Overhead: a service whose model takes no time against the same endpoint on bare FastAPI, in turn, ROUNDS
times; `ratios.throughput` is its share of the bare one's requests a second at CLIENTS clients, `added_ms`
what one client alone waits longer at the median. Overload: FACTOR times what the model can do arrives evenly,
each caller asking once; `ratios.served` is the share of the capacity that is answered, `refusal_p99_ms` how
soon the others know. Callers gone: LEAVING callers leave while they wait; `run_for_nobody` counts their items
that were run even so: a batch, which the model had already begun.
"""

import argparse
import asyncio
import json
import os
import statistics
import sys
import time
from collections import deque
from contextlib import AbstractContextManager
from dataclasses import dataclass

import httpx2
import uvloop

from bench import processes
from bench.callers import Caller
from bench.processes import free_port

PATH = "/v1/work"
ROUNDS = 5
CLIENTS = 32
REQUESTS = 4_000  # of all clients, a round
ALONE = 1_000  # of the one client, a round
CALL_SECONDS, BATCH, WAITING = 0.08, 8, 16
CAPACITY = BATCH / CALL_SECONDS  # items a second
FACTOR = 10
OVERLOAD_SECONDS = 15.0
LEAVING = 200
BARS = {"throughput": 0.80, "served": 0.95}
MOST_ADDED_MS, MOST_REFUSAL_MS = 1.5, 20.0


@dataclass(frozen=True)
class Overload:
    """What became of the requests: the share of the capacity answered, and how soon others were refused."""

    served: float
    refused: int
    refusal_p99_ms: float


def served(*options: str) -> AbstractContextManager[str]:
    """The address of `bench.batched_service`, once it is ready."""
    port = free_port()
    return processes.served(port, "bench.batched_service", "--port", str(port), *options)


def body(number: int) -> bytes:
    return json.dumps({"prompt": f"a red circle above a blue square, {number}", "number": number}).encode()


async def throughput(url: str, clients: int, requests: int) -> tuple[float, float]:
    """Requests a second of `clients` that ask again as soon as answered, and the median's milliseconds."""
    bodies, seconds = iter([body(number) for number in range(requests)]), []

    async def ask() -> None:
        caller = await Caller.connect(url)
        for each in bodies:
            sent = time.perf_counter()
            status, content = await caller.ask(PATH, each)
            seconds.append(time.perf_counter() - sent)
            if status != 200:
                raise RuntimeError(content.decode())
        await caller.leave()

    began = time.perf_counter()
    await asyncio.gather(*(ask() for _ in range(clients)))
    return requests / (time.perf_counter() - began), 1000 * statistics.median(seconds)


def overhead() -> tuple[float, float]:
    """The service's share of bare FastAPI's requests a second; the milliseconds it adds for one client."""
    shares, added = [], []
    with served("--bare") as bare, served() as service:
        for url in (bare, service):
            uvloop.run(throughput(url, CLIENTS, REQUESTS))  # warm
        for _ in range(ROUNDS):
            many = [uvloop.run(throughput(url, CLIENTS, REQUESTS))[0] for url in (bare, service)]
            alone = [uvloop.run(throughput(url, 1, ALONE))[1] for url in (bare, service)]
            shares.append(many[1] / many[0])
            added.append(alone[1] - alone[0])
            print(
                f"  {CLIENTS} clients: {many[0]:.0f}/s bare, {many[1]:.0f}/s served, {shares[-1]:.1%}; "
                f"one: {alone[0]:.2f} ms bare, {alone[1]:.2f} ms served",
                flush=True,
            )
    return statistics.median(shares), statistics.median(added)


async def overloaded(url: str, seconds: float) -> Overload:
    """FACTOR times the capacity for `seconds`, evenly, on connections that are kept."""
    idle: deque[Caller] = deque()  # taken in turn: the server closes a connection that is idle for long
    answers: list[tuple[int, float]] = []

    async def ask(number: int) -> None:
        caller = idle.popleft() if idle else await Caller.connect(url)
        sent = time.perf_counter()
        status, _ = await caller.ask(PATH, body(number))
        answers.append((status, time.perf_counter() - sent))
        idle.append(caller)

    began, asked = time.perf_counter(), []
    for number in range(int(FACTOR * CAPACITY * seconds)):
        await asyncio.sleep(max(0.0, began + number / (FACTOR * CAPACITY) - time.perf_counter()))
        asked.append(asyncio.create_task(ask(number)))
    await asyncio.gather(*asked)
    lasted = time.perf_counter() - began
    for caller in idle:
        await caller.leave()
    refusals = sorted(took for status, took in answers if status == 429)
    count = sum(status == 200 for status, _ in answers)
    if count + len(refusals) != len(answers):
        raise RuntimeError(f"other answers than 200 and 429: {sorted({status for status, _ in answers})}")
    return Overload(count / (CAPACITY * lasted), len(refusals), 1000 * refusals[int(0.99 * len(refusals))])


async def run_for_nobody(url: str) -> int:
    """LEAVING callers leave while they wait; how many of their items the model ran all the same."""
    leaving = [await Caller.connect(url) for _ in range(LEAVING)]
    asked = [asyncio.create_task(caller.ask(PATH, body(number))) for number, caller in enumerate(leaving)]
    await asyncio.sleep(1.5 * CALL_SECONDS)
    waiting = [number for number, task in enumerate(asked) if not task.done()]
    for number in waiting:
        asked[number].cancel()
        await leaving[number].leave()
    await asyncio.gather(*asked, return_exceptions=True)
    await asyncio.sleep(4 * CALL_SECONDS)
    return await _items_run(url) - (LEAVING - len(waiting))


async def _items_run(url: str) -> int:
    async with httpx2.AsyncClient(trust_env=False) as client:
        lines = (await client.get(f"{url}/metrics")).text.splitlines()
    return int(float(next(line.split()[1] for line in lines if line.startswith("retouche_batch_size_sum"))))


def main() -> None:
    """Measure, print and, last, one line of JSON; exit with 1 below a bar."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=OVERLOAD_SECONDS, help="of overload")
    options = parser.parse_args()
    print(f"load of this machine {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores")
    share, added = overhead()
    limits = ["--seconds", str(CALL_SECONDS), "--max-batch", str(BATCH)]
    with served(*limits, "--max-waiting", str(WAITING)) as url:
        found = uvloop.run(overloaded(url, options.seconds))
    with served(*limits, "--max-waiting", str(LEAVING)) as url:
        nobody = uvloop.run(run_for_nobody(url))
    print(f"{'requests/s of bare FastAPI at ' + str(CLIENTS):<44} {share:>8.1%}")
    print(f"{'added for one client, at the median':<44} {added:>5.2f} ms")
    print(f"{f'of the capacity served at {FACTOR} times':<44} {found.served:>8.1%}")
    print(f"{f'{found.refused} refusals, the 99th percentile':<44} {found.refusal_p99_ms:>5.1f} ms")
    print(f"{f'items run for nobody, of {LEAVING} callers who left':<44} {nobody:>8}")
    ratios = {"throughput": round(share, 3), "served": round(found.served, 3)}
    figures = {"added_ms": round(added, 3), "refusal_p99_ms": round(found.refusal_p99_ms, 2)}
    print(json.dumps({"benchmark": "overload", "ratios": ratios, **figures, "run_for_nobody": nobody}))
    within = added <= MOST_ADDED_MS and found.refusal_p99_ms <= MOST_REFUSAL_MS
    sys.exit(not within or any(ratios[name] < bar for name, bar in BARS.items()))


if __name__ == "__main__":
    main()
