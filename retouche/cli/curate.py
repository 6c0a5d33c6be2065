"""`retouche curate`: submit a job and follow it."""

import sys
import tempfile
from pathlib import Path
from typing import Annotated

import typer
from pydantic import ValidationError

from retouche.cli.progress import follow, summary
from retouche.cli.terminal import Json, console, gateway, print_json
from retouche.client import Retouche
from retouche.contract.jobs import CurationSpec
from retouche.errors import BadPrompts, FieldProblem, InvalidPayload

Prompts = Annotated[list[str] | None, typer.Argument(help="Prompts; or give --prompts, or - for stdin.")]


def curate(
    prompts: Prompts = None,
    file: Annotated[Path | None, typer.Option("--prompts", help="A .txt, .jsonl or .csv file.")] = None,
    images_per_prompt: int = 1,
    instructions_per_image: int = 3,
    edits_per_instruction: int = 1,
    pairs_per_image: int = 1,
    reward: Annotated[list[str] | None, typer.Option(help="NAME or NAME=MARGIN; repeat for more.")] = None,
    agreement: Annotated[str, typer.Option(help="all, majority or mean")] = "all",
    relabel: bool = True,
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
        "seed": seed,
    }
    with gateway() as client:
        job = client.submit(_spec({**_source(client, prompts, file), **options}))
        if wait:
            try:
                job = follow(client, job.id, images_per_prompt)
            except KeyboardInterrupt:
                console.print(f"\n{job.id} goes on; follow it with: retouche jobs follow {job.id}")
                raise typer.Exit(130) from None
        if as_json:
            print_json(job)
        else:
            console.print(summary(job), highlight=False, markup=False)
    if job.state in ("failed", "cancelled"):
        raise typer.Exit(1)


def _source(client: Retouche, prompts: list[str] | None, file: Path | None) -> dict[str, object]:
    if bool(prompts) == bool(file):
        both = "both were given" if file else "there are none"
        raise BadPrompts(f"give prompts, or --prompts FILE, or - for stdin: {both}")
    if prompts == ["-"]:
        with tempfile.NamedTemporaryFile("w", suffix=".txt") as copy:
            copy.write(sys.stdin.read())
            copy.flush()
            return {"prompt_set": client.upload_prompts(Path(copy.name)).prompt_set}
    if file is not None:
        return {"prompt_set": client.upload_prompts(file).prompt_set}
    return {"prompts": prompts}


def _rule(text: str) -> dict[str, str]:
    name, _, margin = text.partition("=")
    return {"name": name, "margin": margin or "0"}


def _spec(values: dict[str, object]) -> CurationSpec:
    try:
        return CurationSpec.model_validate(values)
    except ValidationError as error:
        fields = [
            FieldProblem(field=".".join(map(str, entry["loc"])) or "prompts", problem=entry["msg"])
            for entry in error.errors()
        ]
        raise InvalidPayload(f"{fields[0].field}: {fields[0].problem}", fields=fields) from None
