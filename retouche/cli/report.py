"""`retouche report`: a job or a run as one HTML file."""

import asyncio
import re
from pathlib import Path
from typing import Annotated

import typer

from retouche.cli.settings import Settings
from retouche.cli.terminal import Json, console, errors, in_a_folder, print_json
from retouche.client import AsyncRetouche
from retouche.errors import BadRequest
from retouche.report import write_report


def report(
    identifier: Annotated[str, typer.Argument(metavar="JOB_OR_RUN")],
    output: Annotated[
        Path | None, typer.Option(help="The HTML file; else JOB_OR_RUN.html here.", callback=in_a_folder)
    ] = None,
    as_json: Json = False,
) -> None:
    """Write pictures, distributions and tables of a job or a run into one file that needs nothing else."""
    with errors():
        if not re.fullmatch("(job|run)-[0-9a-f]{16}", identifier):
            raise BadRequest(f"{identifier!r} is neither a job nor a run; `retouche jobs list` has them")
        file = asyncio.run(_write(identifier, output or Path(f"{identifier}.html")))
    if as_json:
        print_json({"file": str(file), "bytes": file.stat().st_size})
    else:
        console.print(f"Look at {file}", highlight=False, soft_wrap=True)


async def _write(identifier: str, file: Path) -> Path:
    settings = Settings()
    async with AsyncRetouche(settings.url, api_key=settings.api_key) as client:
        return await write_report(client, identifier, file)
