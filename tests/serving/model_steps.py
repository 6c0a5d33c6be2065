"""Steps for tests of ModelProcess, loaded in its process by their dotted names."""

import os
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from retouche.errors import FieldProblem, InvalidPayload
from serving.steps import Step


def whole(items: Sequence[Any]) -> list[Any]:
    return list(items)


def doubling(factor: int) -> dict[str, Step[int, int, int]]:
    return {"times": Step(whole, lambda numbers: [factor * number for number in numbers])}


def meeting() -> dict[str, Step[Path, Path, Path | str]]:
    """`leaves` makes a file when it is prepared; the others wait for one when they run, or are prepared."""

    def leave(files: Sequence[Path]) -> list[Path]:
        files[0].touch()
        return list(files)

    def wait(files: Sequence[Path]) -> list[str]:
        while not files[0].exists():
            time.sleep(0.01)
        return ["met"] * len(files)

    return {
        "waits for": Step(whole, wait),
        "waits first": Step(wait, whole),
        "leaves": Step(leave, whole),
    }


def refusing() -> dict[str, Step[Any, Any, Any]]:
    def refuse(colors: Sequence[str]) -> list[str]:
        if "mauve" in colors:
            raise InvalidPayload("no such color", fields=[FieldProblem(field="color", problem="unknown")])
        return list(colors)

    def divide(_: Sequence[object]) -> list[object]:
        raise ZeroDivisionError("by nothing")

    return {
        "but mauve": Step(refuse, whole),
        "lose all": Step(lambda _: [], whole),
        "run badly": Step(whole, divide),
        "well": Step(whole, whole),
    }


def unloadable() -> dict[str, Step[Any, Any, Any]]:
    raise InvalidPayload("these are no weights")


def killed() -> dict[str, Step[Any, Any, Any]]:
    os._exit(9)


def mortal() -> dict[str, Step[Any, Any, Any]]:
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
