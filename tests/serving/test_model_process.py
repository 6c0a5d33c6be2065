"""A model in a process of its own: it answers, prepares ahead, fails by name, and ends with its service."""

import asyncio
import subprocess
import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from retouche.errors import InvalidPayload, ModelFailure
from serving.model_process import ModelProcess
from serving.preparing import PROCESSES

STEPS = "tests.serving.model_steps"


@contextmanager
def model(loader: str, *arguments: object) -> Iterator[ModelProcess]:
    loaded = ModelProcess(f"{STEPS}:{loader}", *arguments)
    try:
        yield loaded
    finally:
        loaded.close()


def ask(model: ModelProcess, step: str, items: Sequence[object]) -> list[Any]:
    async def prepared() -> list[bytes]:
        return await asyncio.gather(*map(model.prepare(step), items))

    return model.run(step)(asyncio.run(prepared()))


def test_it_answers_by_the_steps_that_were_loaded() -> None:
    with model("doubling", 2) as doubled:
        assert doubled.steps == ["times"]
        assert ask(doubled, "times", [1, 2, 3]) == [2, 4, 6]


def test_one_item_is_prepared_while_another_runs(tmp_path: Path) -> None:
    later = tmp_path / "later"
    with model("meeting") as met, ThreadPoolExecutor() as callers:
        waiting = callers.submit(ask, met, "waits for", [later])
        assert ask(met, "leaves", [later]) == [later]
        assert waiting.result(60) == ["met"]


def test_an_item_whose_caller_has_gone_is_not_prepared(tmp_path: Path) -> None:
    go_on, unwanted = tmp_path / "go on", tmp_path / "unwanted"

    async def leave_early(met: ModelProcess) -> None:
        async def begun(name: str, item: Path) -> "asyncio.Future[bytes]":
            asked = asyncio.ensure_future(met.prepare(name)(item))
            await asyncio.sleep(0.01)  # or a process would be given two
            return asked

        busy = [await begun("waits first", go_on) for _ in range(PROCESSES)]
        (await begun("leaves", unwanted)).cancel()
        go_on.touch()
        await asyncio.gather(*busy, met.prepare("leaves")(tmp_path / "wanted"))

    with model("meeting") as met:
        asyncio.run(leave_early(met))
        assert not unwanted.exists()


def test_a_call_that_fails_fails_alone_and_as_what_it_is() -> None:
    with model("refusing") as refused:
        with pytest.raises(InvalidPayload, match="no such color") as named:
            ask(refused, "but mauve", ["mauve"])
        assert named.value.fields[0].field == "color"
        with pytest.raises(ModelFailure, match="ZeroDivisionError: by nothing"):
            ask(refused, "run badly", ["gray"])
        with pytest.raises(ModelFailure, match="0 of 1 requests were prepared"):
            ask(refused, "lose all", ["gray", "pink"])
        assert ask(refused, "well", ["gray"]) == ["gray"]


def test_an_item_that_cannot_be_prepared_fails_alone() -> None:
    async def prepared(refused: ModelProcess) -> list[bytes | BaseException]:
        colors = ["gray", "mauve", "pink"]
        return await asyncio.gather(*map(refused.prepare("but mauve"), colors), return_exceptions=True)

    with model("refusing") as refused:
        gray, mauve, pink = asyncio.run(prepared(refused))
        assert isinstance(mauve, InvalidPayload)
        assert isinstance(gray, bytes)
        assert isinstance(pink, bytes)
        assert refused.run("but mauve")([gray, pink]) == ["gray", "pink"]


def test_an_item_that_cannot_be_sent_fails_and_nothing_else_does() -> None:
    with model("refusing") as refused:
        for _ in range(8):  # more often than there are processes that prepare
            with pytest.raises(ModelFailure, match="lambda"):
                ask(refused, "well", [lambda: None])
        assert ask(refused, "well", ["gray"]) == ["gray"]


def test_what_keeps_a_model_from_loading_is_told() -> None:
    with pytest.raises(InvalidPayload, match="these are no weights"):
        ModelProcess(f"{STEPS}:unloadable")
    with pytest.raises(ModelFailure, match=r"that loads tests.*killed ended with code 9"):
        ModelProcess(f"{STEPS}:killed")


def service(then: str) -> "subprocess.Popen[str]":
    """A process that prints where its model prepares and runs, and goes on as told."""
    program = f"""
import time
from tests.serving.test_model_process import ModelProcess, ask
model = ModelProcess("{STEPS}:mortal")
print(*ask(model, "where it is prepared", [0]), *ask(model, "where it runs", [0]), flush=True)
{then}
"""
    return subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True)


@pytest.mark.parametrize("call", ["dies", "dies prepared"])
def test_a_service_ends_with_its_model(call: str) -> None:
    with service(f'ask(model, "{call}", [0])') as asking:
        assert asking.wait(60) == 1


def test_a_model_ends_with_its_service() -> None:
    with service("time.sleep(600)") as asking:
        assert asking.stdout is not None
        processes = {*map(int, asking.stdout.readline().split()), asking.pid}
        assert len(processes) == 3, (
            "the model runs where requests are answered, or where batches are prepared"
        )
        asking.kill()
        asking.communicate(timeout=60)  # comes back when nobody has its output open any more: all have ended
