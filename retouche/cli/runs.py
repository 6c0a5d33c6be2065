"""`retouche runs`: inspect, follow, cancel and retry training runs, and fetch what they made."""

from pathlib import Path
from typing import Annotated

import typer
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from retouche.cli.terminal import Json, console, end_as, gateway, print_json
from retouche.client import Retouche
from retouche.contract.runs import Run

app = typer.Typer(no_args_is_help=True)

RunId = Annotated[str, typer.Argument(metavar="RUN")]


@app.command("list")
def listing(as_json: Json = False) -> None:
    """Every run, the newest first."""
    with gateway() as client:
        runs = list(client.runs())
    if as_json:
        print_json([run.model_dump(mode="json") for run in runs])
        return
    table = Table("run", "state", "objective", "data", "step", box=None)
    for run in runs:
        data = run.spec.data.job or run.spec.data.pick_a_pic or ""
        step = f"{run.step}/{run.spec.optimisation.steps}"
        table.add_row(run.id, run.state, run.spec.objective.name, data, step)
    console.print(table)


@app.command()
def show(run_id: RunId, as_json: Json = False) -> None:
    """One run."""
    with gateway() as client:
        _print(client.run(run_id), as_json)


@app.command("follow")
def follow_until_ended(run_id: RunId, as_json: Json = False) -> None:
    """Follow a run until it has ended; code 1 where it failed or was cancelled."""
    with gateway() as client:
        run = follow(client, run_id)
        _print(run, as_json)
    end_as(run.state)


@app.command()
def cancel(run_id: RunId, as_json: Json = False) -> None:
    """Stop a run after a last checkpoint."""
    with gateway() as client:
        _print(client.cancel_run(run_id), as_json)


@app.command()
def retry(run_id: RunId, as_json: Json = False) -> None:
    """Go on with a cancelled or failed run from its last checkpoint."""
    with gateway() as client:
        _print(client.retry_run(run_id), as_json)


@app.command()
def artifacts(
    run_id: RunId,
    output: Annotated[Path, typer.Option(help="The folder to write.")] = Path(),
    as_json: Json = False,
) -> None:
    """Download what a run has made: the LoRA or the pipeline, its card, TensorBoard's events."""
    with gateway() as client:
        files = client.download_artifacts(run_id, output)
    if as_json:
        print_json([str(file) for file in files])
    else:
        console.print("\n".join(str(file) for file in files) or "none yet", highlight=False, soft_wrap=True)


def follow(client: Retouche, run_id: str) -> Run:
    """Show how far the run is until it has ended; the run as it ended."""
    columns = (
        TextColumn("{task.description:<10}"),
        BarColumn(40),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("{task.fields[figures]}"),
    )
    with Progress(*columns, console=console) as progress:
        run = client.run(run_id)
        bar = progress.add_task("steps", total=run.spec.optimisation.steps, figures=run.state)
        for event in client.run_events(run_id):
            run = event.run
            progress.update(bar, completed=run.step, figures=_figures(run))
    return run


def summary(run: Run) -> str:
    """What became of the run, for a person."""
    lines = [f"{run.id} is {run.state} at step {run.step} of {run.spec.optimisation.steps}: {_figures(run)}"]
    lines += [f"  {artifact.bytes:>12,} bytes  {artifact.name}" for artifact in run.artifacts]
    if run.error:
        lines.append(run.error)
    return "\n".join(lines)


def _figures(run: Run) -> str:
    if (metrics := run.metrics) is None:
        return run.state
    return (
        f"loss {metrics.loss:.4f}  implicit accuracy {metrics.implicit_accuracy:.2f}  "
        f"{metrics.pairs_per_second:.1f} pairs/s"
    )


def _print(run: Run, as_json: bool) -> None:
    if as_json:
        print_json(run)
    else:
        console.print(summary(run), highlight=False)
