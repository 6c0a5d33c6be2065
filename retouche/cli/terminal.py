"""What every command shares: the client, its errors as one message, people's output and scripts'."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated, Any

import typer
from pydantic import BaseModel
from rich.console import Console

from retouche.cli.settings import Settings
from retouche.client import Retouche
from retouche.errors import RetoucheError

console = Console(stderr=True)

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
        console.print(f"[red]{error.code}[/red]: {error.detail}", highlight=False, markup=True)
        raise typer.Exit(1) from None


def print_json(value: BaseModel | list[Any] | dict[str, Any]) -> None:
    """The one document on stdout."""
    plain = value.model_dump(mode="json") if isinstance(value, BaseModel) else value
    print(json.dumps(plain))
