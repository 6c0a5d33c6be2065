"""`retouche pairs`: look at what came out, and take it away."""

from itertools import islice
from pathlib import Path
from typing import Annotated, Literal

import typer
from rich.markup import escape
from rich.table import Table

from retouche.cli.terminal import Json, console, gateway, in_a_folder, print_json
from retouche.contact_sheet import MOST_ROWS, write_sheet

app = typer.Typer(no_args_is_help=True)

JobId = Annotated[str, typer.Argument(metavar="JOB")]


@app.command("list")
def listing(job_id: JobId, limit: Annotated[int, typer.Option(min=1)] = 20, as_json: Json = False) -> None:
    """The first pairs of a job."""
    with gateway() as client:
        pairs = list(islice(client.pairs(job_id), limit))
    if as_json:
        print_json([pair.model_dump(mode="json") for pair in pairs])
        return
    table = Table(box=None)
    for column in ("prompt", "instruction", "chosen"):
        table.add_column(column)
    for pair in pairs:
        table.add_row(
            escape(pair.prompt), escape(pair.instruction.text), "edit" if pair.chosen_is_edit else "original"
        )
    console.print(table)


@app.command()
def export(
    job_id: JobId,
    output: Annotated[Path, typer.Option(help="The file to write.", callback=in_a_folder)],
    format: Annotated[Literal["ndjson", "parquet"], typer.Option()] = "parquet",
    as_json: Json = False,
) -> None:
    """Write all pairs to one file."""
    with gateway() as client:
        file = client.export(job_id, output, format)
    _wrote(file, as_json)


@app.command()
def sheet(
    job_id: JobId,
    output: Annotated[Path, typer.Option(help="The PNG to write.", callback=in_a_folder)],
    rows: Annotated[int, typer.Option(min=1, max=200)] = MOST_ROWS,
    as_json: Json = False,
) -> None:
    """Draw the first pairs as a contact sheet."""
    with gateway() as client:
        file = write_sheet(client, job_id, output, rows)
    _wrote(file, as_json)


def _wrote(file: Path, as_json: bool) -> None:
    if as_json:
        print_json({"file": str(file), "bytes": file.stat().st_size})
    else:
        console.print(f"wrote {file} ({file.stat().st_size:,} bytes)")
