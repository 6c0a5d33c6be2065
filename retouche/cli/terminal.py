"""What every command shares: the client, its errors as one message, people's output and scripts'."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer
from pydantic import BaseModel, ValidationError
from rich.console import Console
from rich.text import Text

from retouche.cli.settings import Settings
from retouche.client import Retouche
from retouche.errors import RetoucheError

# Paths and messages may hold brackets and colons: nothing in them is markup.
console = Console(stderr=True, markup=False, emoji=False)

Json = Annotated[bool, typer.Option("--json", help="One JSON document on stdout, for scripts.")]


@contextmanager
def gateway() -> Iterator[Retouche]:
    """A client of the gateway at RETOUCHE_URL."""
    settings = Settings()
    with errors(), Retouche(settings.url, api_key=settings.api_key) as client:
        yield client


@contextmanager
def errors() -> Iterator[None]:
    """Print an error as one message and leave with code 1."""
    try:
        yield
    except RetoucheError as error:
        _say(error.code, error.detail)
        raise typer.Exit(1) from None
    except ValidationError as error:  # of a specification that was put together here
        first = error.errors()[0]
        _say("invalid-payload", f"{'.'.join(map(str, first['loc'])) or error.title}: {first['msg']}")
        raise typer.Exit(1) from None
    except OSError as error:
        _say("file", str(error))
        raise typer.Exit(1) from None


def _say(code: str, detail: str) -> None:
    console.print(Text.assemble((code, "red"), f": {detail}"), soft_wrap=True)


def in_a_folder(file: Path | None) -> Path | None:
    """A typer callback: the folder that `file` is to be written to must be there."""
    if file is not None and not file.absolute().parent.is_dir():
        raise typer.BadParameter(f"there is no folder {file.parent}; make it first")
    return file


def end_as(state: str) -> None:
    """Leave with code 1 where what was followed failed or was cancelled."""
    if state in ("failed", "cancelled"):
        raise typer.Exit(1)


def print_json(value: BaseModel | list[Any] | dict[str, Any]) -> None:
    """The one document on stdout."""
    plain = value.model_dump(mode="json") if isinstance(value, BaseModel) else value
    print(json.dumps(plain))
