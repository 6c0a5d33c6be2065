"""`retouche studio`: the web page, as a process of its own."""

import importlib.util
import subprocess
import sys
from typing import Annotated

import typer

from retouche.cli.settings import Settings
from retouche.cli.terminal import errors
from retouche.errors import Conflict

DEFAULT_PORT = 8710


def studio(
    port: Annotated[int, typer.Option(min=1, max=65_535, help="Where to serve it.")] = DEFAULT_PORT,
) -> None:
    """Serve a page on the jobs, pairs and runs of the gateway at RETOUCHE_URL, until Ctrl-C."""
    with errors():
        for module, fix in (
            ("studio", "it comes with a checkout and with the image `studio`: run this in a checkout"),
            ("gradio", "pip install 'retouche[studio]'"),
        ):
            if importlib.util.find_spec(module) is None:
                raise Conflict(f"there is no {module} here; {fix}")
    command = [sys.executable, "-m", "studio", "--url", Settings().url, "--port", str(port)]
    try:
        raise typer.Exit(subprocess.call(command))
    except KeyboardInterrupt:
        raise typer.Exit(0) from None
