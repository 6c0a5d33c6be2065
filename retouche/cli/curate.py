"""`retouche curate`: submit a job and follow it."""

import shutil
import sys
import tempfile
from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape

from retouche.cli.progress import follow, summary
from retouche.cli.terminal import Json, console, end_as, gateway, print_json
from retouche.client import Retouche
from retouche.contract.jobs import CurationSpec
from retouche.errors import BadPrompts
from retouche.intake.images import Side, Wanted
from retouche.intake.rows import Skipped

_PROMPTS_HELP = escape(  # typer reads help as markup
    "Text, CSV, TSV, JSONL, JSON or Parquet: a file, a folder, or hf://datasets/OWNER/NAME[/PATH]."
)
_IMAGES_HELP = (
    "Existing images to start from, in place of generation: a folder, Parquet, or Pick-a-Pic pairs."
)

Prompts = Annotated[list[str] | None, typer.Argument(help="Prompts; or give --prompts, or - for stdin.")]


def curate(
    prompts: Prompts = None,
    file: Annotated[str | None, typer.Option("--prompts", metavar="SOURCE", help=_PROMPTS_HELP)] = None,
    images: Annotated[str | None, typer.Option(metavar="SOURCE", help=_IMAGES_HELP)] = None,
    side: Annotated[
        Side | None,
        typer.Option("--edit", help="Which image of pairs to start from; none: the rejected one."),
    ] = None,
    column: Annotated[str | None, typer.Option(help="Of the prompts, where it is not recognised.")] = None,
    image_column: Annotated[str | None, typer.Option(help="Of the images, likewise.")] = None,
    images_per_prompt: int = 1,
    instructions_per_image: int = 3,
    edits_per_instruction: int = 1,
    pairs_per_image: int = 1,
    reward: Annotated[list[str] | None, typer.Option(help="NAME or NAME=MARGIN; repeat for more.")] = None,
    agreement: Annotated[str, typer.Option(help="all, majority or mean")] = "all",
    relabel: bool = True,
    style: Annotated[
        str | None, typer.Option(help="One instruction for every image; its edits are the chosen ones.")
    ] = None,
    seed: int = 0,
    wait: Annotated[bool, typer.Option(help="Follow the job until it has ended.")] = True,
    as_json: Json = False,
) -> None:
    """Curate preference pairs for prompts."""
    options = {
        "images_per_prompt": images_per_prompt,
        "instructions_per_image": instructions_per_image,
        "edits_per_instruction": edits_per_instruction,
        "pairs_per_image": pairs_per_image,
        "rewards": [_rule(text) for text in reward or []],
        "agreement": agreement,
        "relabel": relabel,
        "style": style,
        "seed": seed,
    }
    with gateway() as client:
        CurationSpec.model_validate({"prompts": ["any"], **options})  # before anything is uploaded
        _check_source(prompts, file, images, of_rows=column, of_images=side or image_column)
        wanted = Wanted(side=side or "rejected", column=column, image_column=image_column)
        spec = CurationSpec.model_validate({**_source(client, prompts, file, images, wanted), **options})
        job = client.submit(client.pinned(spec, starting_images=images is not None) or spec)
        if wait:
            try:
                job = follow(client, job.id)
            except KeyboardInterrupt:
                console.print(f"\n{job.id} goes on; follow it with: retouche jobs follow {job.id}")
                raise typer.Exit(130) from None
        if as_json:
            print_json(job)
        else:
            console.print(summary(job), highlight=False)
    end_as(job.state)


def _check_source(
    prompts: list[str] | None,
    file: str | None,
    images: str | None,
    *,
    of_rows: str | None,
    of_images: str | None,
) -> None:
    if sum(map(bool, (prompts, file, images))) != 1:
        several = "several were given" if prompts or file or images else "there are none"
        raise BadPrompts(f"give prompts, or --prompts FILE, or - for stdin, or --images SOURCE: {several}")
    if of_rows and prompts:
        raise BadPrompts(
            f"--column {of_rows}: prompts that are typed or come from stdin, one a line, have no columns; "
            "give it with --prompts FILE or --images SOURCE"
        )
    if of_images and not images:
        raise BadPrompts(
            "--edit and --image-column are about existing images; give them with --images SOURCE"
        )


def _source(
    client: Retouche, prompts: list[str] | None, file: str | None, images: str | None, wanted: Wanted
) -> dict[str, object]:
    if prompts and prompts != ["-"]:
        return {"prompts": prompts}
    skipped = Skipped()
    if images is not None:
        uploaded = client.upload_images(images, wanted, skipped=skipped)
    elif file is not None:
        uploaded = client.upload_prompts(file, column=wanted.column, skipped=skipped)
    else:
        with tempfile.TemporaryDirectory() as folder:
            copy = Path(folder, "stdin")
            with copy.open("wb") as written:
                shutil.copyfileobj(sys.stdin.buffer, written)
            uploaded = client.upload_prompts(copy, skipped=skipped)
    if skipped.count:
        console.print(f"left out {skipped.count:,} rows that cannot be used:", highlight=False)
        console.print("\n".join(skipped.problems), highlight=False, soft_wrap=True)
    return {"prompt_set": uploaded.prompt_set}


def _rule(text: str) -> dict[str, str]:
    name, _, margin = text.partition("=")
    return {"name": name, "margin": margin or "0"}
