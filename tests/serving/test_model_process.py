"""A model in a process of its own: it answers, prepares ahead, fails by name, and ends with its service."""

import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import pytest

from retouche.errors import InvalidPayload, ModelFailure
from serving.model_process import ModelProcess

STEPS = "tests.serving.model_steps"


@contextmanager
def model(loader: str, *arguments: object) -> Iterator[ModelProcess]:
    loaded = ModelProcess(f"{STEPS}:{loader}", *arguments)
    try:
        yield loaded
    finally:
        loaded.close()


def test_it_answers_by_the_steps_that_were_loaded() -> None:
    with model("doubling", 2) as doubled:
        assert doubled.steps == ["times"]
        assert doubled.step("times")([1, 2, 3]) == [2, 4, 6]


def test_one_call_is_prepared_while_another_runs(tmp_path: Path) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    with model("meeting") as met, ThreadPoolExecutor() as callers:
        waiting = callers.submit(met.step("waits"), [first, second])
        passing = callers.submit(met.step("passes"), [second, first])
        assert (waiting.result(60), passing.result(60)) == (["met"], ["passed"])


def test_a_call_that_fails_fails_alone_and_as_what_it_is() -> None:
    with model("refusing") as refused:
        with pytest.raises(InvalidPayload, match="no such color") as named:
            refused.step("prepared badly")(["mauve"])
        assert named.value.fields[0].field == "color"
        with pytest.raises(ModelFailure, match="ZeroDivisionError: by nothing"):
            refused.step("run badly")(["gray"])
        assert refused.step("well")(["gray"]) == ["gray"]


def test_what_keeps_a_model_from_loading_is_told() -> None:
    with pytest.raises(InvalidPayload, match="these are no weights"):
        ModelProcess(f"{STEPS}:unloadable")
    with pytest.raises(ModelFailure, match=r"that loads tests.*killed ended with code 9"):
        ModelProcess(f"{STEPS}:killed")


def service(then: str) -> "subprocess.Popen[str]":
    """A process that prints where its model prepares and runs, and goes on as told."""
    program = f"""
import time
from serving.model_process import ModelProcess
model = ModelProcess("{STEPS}:mortal")
print(*model.step("where it is prepared")([0]), *model.step("where it runs")([0]), flush=True)
{then}
"""
    return subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True)


@pytest.mark.parametrize("call", ["dies", "dies prepared"])
def test_a_service_ends_with_its_model(call: str) -> None:
    with service(f'model.step("{call}")([0])') as asking:
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
