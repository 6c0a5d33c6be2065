"""Steps for tests of ModelProcess, loaded in its process by their dotted names."""

import os
import time
from collections.abc import Sequence
from pathlib import Path

from retouche.errors import FieldProblem, InvalidPayload
from serving.steps import Step


def whole(items: Sequence[object]) -> list[object]:
    return list(items)


def doubling(factor: int) -> dict[str, Step[int, int]]:
    return {"times": Step(whole, lambda numbers: [factor * number for number in numbers])}


def meeting() -> dict[str, Step[Path, str]]:
    """Each call leaves a file when it is prepared; `waits` runs until another call's file is there."""

    def prepare(files: Sequence[Path]) -> list[Path]:
        files[0].touch()
        return list(files)

    def wait(files: list[Path]) -> list[str]:
        while not files[1].exists():
            time.sleep(0.01)
        return ["met"]

    return {"waits": Step(prepare, wait), "passes": Step(prepare, lambda _: ["passed"])}


def refusing() -> dict[str, Step[object, object]]:
    def refuse(_: Sequence[object]) -> list[object]:
        raise InvalidPayload("no such color", fields=[FieldProblem(field="color", problem="unknown")])

    def divide(_: Sequence[object]) -> list[object]:
        raise ZeroDivisionError("by nothing")

    return {
        "prepared badly": Step(refuse, whole),
        "run badly": Step(whole, divide),
        "well": Step(whole, whole),
    }


def unloadable() -> dict[str, Step[object, object]]:
    raise InvalidPayload("these are no weights")


def killed() -> dict[str, Step[object, object]]:
    os._exit(9)


def mortal() -> dict[str, Step[object, object]]:
    def die(_: Sequence[object]) -> list[object]:
        os._exit(9)

    def own_process(_: Sequence[object]) -> list[object]:
        return [os.getpid()]

    return {
        "where it runs": Step(whole, own_process),
        "where it is prepared": Step(own_process, whole),
        "dies": Step(whole, die),
        "dies prepared": Step(die, whole),
    }
