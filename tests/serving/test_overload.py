"""A service under real load, as a process: who is refused, who is dropped, and who is still answered."""

import asyncio
import re
import signal
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager

import httpx2
import pytest

from bench.processes import free_port

Use = Callable[[httpx2.AsyncClient], Awaitable[None]]
BATCH, WAITING = 2, 4


@contextmanager
def service(seconds: float) -> Iterator[tuple[str, "subprocess.Popen[bytes]"]]:
    """A model that takes BATCH items for `seconds`, with room for WAITING more."""
    port = free_port()
    options = f"--port {port} --seconds {seconds} --max-batch {BATCH} --max-waiting {WAITING}"
    command = [sys.executable, "-m", "bench.batched_service", *options.split(), "--unready-seconds", "3"]
    process = subprocess.Popen(command)
    url = f"http://127.0.0.1:{port}"
    try:
        while not _ready(url):
            assert process.poll() is None
            time.sleep(0.05)
        yield url, process
    finally:
        process.kill()
        process.wait()


def _ready(url: str) -> bool:
    try:
        return httpx2.get(f"{url}/readyz", trust_env=False).is_success
    except httpx2.TransportError:
        return False


def using(url: str, use: Use) -> None:
    async def run() -> None:
        async with httpx2.AsyncClient(base_url=url, trust_env=False, timeout=60) as client:
            await use(client)

    asyncio.run(run())


def ask(client: httpx2.AsyncClient, number: int) -> "asyncio.Task[httpx2.Response]":
    payload = {"prompt": "a red circle", "number": number}
    return asyncio.create_task(client.post("/v1/work", json=payload))


async def meter(client: httpx2.AsyncClient, name: str) -> float:
    found = re.search(rf"^{name} (\S+)$", (await client.get("/metrics")).text, re.MULTILINE)
    return float(found[1]) if found else 0.0


async def full(client: httpx2.AsyncClient) -> "list[asyncio.Task[httpx2.Response]]":
    """Callers with the numbers 0, 1, ... until there is no room: WAITING wait, the others are at work."""
    asked: list[asyncio.Task[httpx2.Response]] = []
    while await meter(client, "retouche_waiting_items") < WAITING:
        asked.append(ask(client, len(asked)))
        await asyncio.sleep(0.05)
    return asked


def test_beyond_its_room_a_service_refuses_at_once_and_answers_the_others() -> None:
    async def use(client: httpx2.AsyncClient) -> None:
        inside = await full(client)
        refusals = await asyncio.gather(*(ask(client, 100) for _ in range(20)))
        assert not any(task.done() for task in inside), "refused while the first batch was still at work"
        assert {refusal.status_code for refusal in refusals} == {429}
        assert all(int(refusal.headers["retry-after"]) >= 1 for refusal in refusals)
        answers = [answer.json()["number"] for answer in await asyncio.gather(*inside)]
        assert answers == [2 * number for number in range(len(inside))]

    with service(seconds=3) as (url, _):
        using(url, use)


def test_items_of_callers_who_have_gone_are_never_run() -> None:
    async def use(client: httpx2.AsyncClient) -> None:
        inside = await full(client)
        at_work, waiting = inside[:-WAITING], inside[-WAITING:]
        for task in waiting:
            task.cancel()
        while await meter(client, "retouche_abandoned_items_total") < WAITING:
            continue
        later = await ask(client, 7)
        assert later.json() == {"number": 14}
        assert await meter(client, "retouche_batch_size_sum") == len(at_work) + 1

    with service(seconds=3) as (url, _):
        using(url, use)


def test_told_to_stop_it_is_unready_first_refuses_newcomers_and_answers_whom_it_took() -> None:
    with service(seconds=1) as (url, process):

        async def use(client: httpx2.AsyncClient) -> None:
            inside = await full(client)
            process.send_signal(signal.SIGTERM)
            while (ready := await client.get("/readyz")).is_success:
                continue
            assert (ready.status_code, "stopping" in ready.text) == (503, True)
            newcomer = await ask(client, 100)
            assert (newcomer.status_code, newcomer.headers["retry-after"]) == (503, "1")
            answers = [answer.json()["number"] for answer in await asyncio.gather(*inside)]
            assert answers == [2 * number for number in range(len(inside))]

        using(url, use)
        assert process.wait(timeout=30) in (0, -signal.SIGTERM)
        with pytest.raises(httpx2.ConnectError):
            httpx2.get(f"{url}/readyz", trust_env=False)
