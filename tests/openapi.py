"""`python -m tests.openapi`: write every process's OpenAPI document to docs/openapi."""

import json
from collections.abc import Callable
from pathlib import Path

from fastapi import FastAPI

from gateway.app import create_app as gateway
from services.critique.app import create_app as critique
from services.editing.app import create_app as editing
from services.generation.app import create_app as generation
from services.instruction.app import create_app as instruction
from services.reward.app import create_app as reward

FOLDER = Path(__file__).parents[1] / "docs" / "openapi"
APPS: dict[str, Callable[[], FastAPI]] = {
    "gateway": gateway,
    "generation": generation,
    "critique": critique,
    "instruction": instruction,
    "editing": editing,
    "reward": reward,
}


def document(name: str) -> str:
    """The OpenAPI document of one process, as committed."""
    return json.dumps(APPS[name]().openapi(), indent=1, sort_keys=True) + "\n"


def main() -> None:
    FOLDER.mkdir(parents=True, exist_ok=True)
    for name in APPS:
        (FOLDER / f"{name}.json").write_text(document(name))


if __name__ == "__main__":
    main()
