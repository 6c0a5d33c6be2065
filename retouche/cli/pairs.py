"""`retouche pairs`: look at what came out, and take it away."""

from itertools import islice
from pathlib import Path
from typing import Annotated, Literal

import typer
from rich.table import Table

from retouche.cli.terminal import Json, console, errors, gateway, in_a_folder, print_json
from retouche.contact_sheet import MOST_ROWS, write_sheet
from retouche.contract.reviews import Reviewed
from retouche.errors import RetoucheError
from retouche.export.folder import write_folder
from retouche.export.unfinished import refuse_unfinished
from retouche.hub import EARLIER_DATA, push

app = typer.Typer(no_args_is_help=True)

JobId = Annotated[str, typer.Argument(metavar="JOB")]
Format = Literal["pick-a-pic", "parquet", "ndjson"]

_ENDINGS: dict[str, Format] = {".parquet": "parquet", ".ndjson": "ndjson", ".jsonl": "ndjson"}


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
        table.add_row(pair.prompt, pair.instruction.text, "edit" if pair.chosen_is_edit else "original")
    console.print(table)


@app.command()
def export(
    job_id: JobId,
    output: Annotated[Path, typer.Option(help="The file or folder to write.", callback=in_a_folder)],
    format: Annotated[
        Format | None, typer.Option(help="Where not given: by the output's ending; a folder is pick-a-pic.")
    ] = None,
    validation: Annotated[
        float, typer.Option(min=0, max=0.5, help="Pick-a-Pic: share of prompts in the validation split.")
    ] = 0.0,
    reviewed: Annotated[
        Reviewed, typer.Option(help="Without the pairs that people rejected, or only those accepted.")
    ] = "all",
    push_to_hub: Annotated[
        str | None,
        typer.Option(metavar="REPO", help="Pick-a-Pic: also commit it to this data set of the Hub."),
    ] = None,
    private: Annotated[bool, typer.Option(help="Whether a data set made on the Hub is private.")] = False,
    as_json: Json = False,
) -> None:
    """Write all pairs: a folder in the layout of Pick-a-Pic with their images, or one file without them."""
    written = format or _ENDINGS.get(output.suffix, "pick-a-pic")
    if written != "pick-a-pic":
        if push_to_hub or validation:
            raise typer.BadParameter(f"--push-to-hub and --validation go with a folder, not with {written}")
        with gateway() as client:
            refuse_unfinished(client.job(job_id))
            _wrote(client.export(job_id, output, written, reviewed), as_json)
        return
    with gateway() as client:
        splits = dict(write_folder(client, job_id, output, validation=validation, reviewed=reviewed).splits)
    if not as_json:
        counts = ", ".join(f"{count:,} pairs in {split}" for split, count in sorted(splits.items()))
        console.print(f"wrote {output} ({counts})", highlight=False, soft_wrap=True)
    address = _pushed(output, push_to_hub, private) if push_to_hub else None
    if as_json:
        print_json({"folder": str(output), "pairs": splits, "hub": address})
    elif address:
        console.print(f"pushed to {address}", highlight=False, soft_wrap=True)


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


def _pushed(folder: Path, repository: str, private: bool) -> str:
    """The address; the folder is whole already, so one that the Hub refuses can be pushed by hand."""
    with errors():
        try:
            return push(folder, repository, private=private)
        except RetoucheError:
            command = f'hf upload {repository} {folder} --repo-type dataset --delete "{EARLIER_DATA}"'
            console.print(f"to push it later: {command}", soft_wrap=True)
            raise


def _wrote(file: Path, as_json: bool) -> None:
    if as_json:
        print_json({"file": str(file), "bytes": file.stat().st_size})
    else:
        console.print(f"wrote {file} ({file.stat().st_size:,} bytes)", soft_wrap=True)
