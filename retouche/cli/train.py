"""`retouche train`: submit a training run and follow it."""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer
import yaml

from retouche.cli.runs import follow, summary
from retouche.cli.terminal import Json, console, end_as, gateway, print_json
from retouche.contract.reviews import Reviewed
from retouche.contract.runs import RunSpec
from retouche.errors import InvalidPayload

# The kinds of what is typed in part, where neither a file nor an option names one.
_DEFAULTS: dict[str, Any] = {"data": {}, "objective": {"name": "diffusion_dpo"}, "tuning": {"kind": "lora"}}


def train(
    job: Annotated[str | None, typer.Argument(help="A curation job; or give --pick-a-pic or --spec.")] = None,
    pick_a_pic: Annotated[str | None, typer.Option(help="A folder in Pick-a-Pic's layout.")] = None,
    specification: Annotated[
        Path | None, typer.Option("--spec", help="A YAML file: the run, but for what else is typed.")
    ] = None,
    follow_job: Annotated[bool, typer.Option("--follow", help="Train while the job still runs.")] = False,
    reviewed: Annotated[
        Reviewed | None, typer.Option(help="Without the pairs that people rejected, or only those accepted.")
    ] = None,
    base: Annotated[str | None, typer.Option(help="A pipeline; none: the profile's.")] = None,
    objective: Annotated[
        str | None, typer.Option(help="sft, diffusion_dpo (if none is named), diffusion_rpo or rich_dpo")
    ] = None,
    beta: Annotated[float | None, typer.Option(help="How close to stay to the base.")] = None,
    anchor_weight: Annotated[float | None, typer.Option(help="Of the chosen image's own error.")] = None,
    tuning: Annotated[str | None, typer.Option(help="lora (if none is named) or full")] = None,
    rank: Annotated[int | None, typer.Option(help="Of the LoRA.")] = None,
    steps: int | None = None,
    batch_size: int | None = None,
    learning_rate: float | None = None,
    seed: int | None = None,
    wait: Annotated[bool, typer.Option(help="Follow the run until it has ended.")] = True,
    as_json: Json = False,
) -> None:
    """Train on the pairs of a job, or of a folder."""
    typed = _given(
        data=_given(job=job, pick_a_pic=pick_a_pic, follow=follow_job or None, reviewed=reviewed),
        base=base,
        objective=_given(name=objective, beta=beta, anchor_weight=anchor_weight),
        tuning=_given(kind=tuning, rank=rank),
        optimisation=_given(steps=steps, batch_size=batch_size, learning_rate=learning_rate),
        seed=seed,
    )
    with gateway() as client:
        run = client.submit_run(specified(specification, typed))
        if wait:
            try:
                run = follow(client, run.id)
            except KeyboardInterrupt:
                console.print(f"\n{run.id} goes on; follow it with: retouche runs follow {run.id}")
                raise typer.Exit(130) from None
        if as_json:
            print_json(run)
        else:
            console.print(summary(run), highlight=False)
    end_as(run.state)


def _given(**values: Any) -> dict[str, Any]:
    return {name: value for name, value in values.items() if value not in (None, {})}


def specified(file: Path | None, typed: Mapping[str, Any]) -> RunSpec:
    """The run that a YAML file describes, with the fields that were `typed` in the place of its own.

    Raises:
        InvalidPayload: the file cannot be read.
        ValidationError: together they are no specification; names the field.
    """
    values: dict[str, Any] = dict(_DEFAULTS)
    for given in (_read(file) if file else {}, typed):
        for name, value in given.items():
            below = values.get(name)
            values[name] = below | value if isinstance(below, dict) and isinstance(value, dict) else value
    return RunSpec.model_validate(values)


def _read(file: Path) -> dict[str, Any]:
    try:
        values = yaml.safe_load(file.read_text())
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise InvalidPayload(f"--spec: {file} cannot be read: {error}") from None
    if not isinstance(values, dict):
        raise InvalidPayload(f"--spec: {file} holds no fields of a run")
    return values
