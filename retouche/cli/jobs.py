"""`retouche jobs`: inspect, follow, cancel and retry."""

from typing import Annotated

import typer
from rich.table import Table

from retouche.cli.progress import follow as follow_bars
from retouche.cli.progress import summary
from retouche.cli.terminal import Json, console, end_as, gateway, print_json
from retouche.contract.jobs import Job

app = typer.Typer(no_args_is_help=True)

JobId = Annotated[str, typer.Argument(metavar="JOB")]


@app.command("list")
def listing(as_json: Json = False) -> None:
    """Every job, the newest first."""
    with gateway() as client:
        jobs = list(client.jobs())
    if as_json:
        print_json([job.model_dump(mode="json") for job in jobs])
        return
    table = Table(box=None)
    for column in ("job", "state", "created", "prompts", "shards", "pairs"):
        table.add_column(column, justify="right" if column in ("prompts", "pairs") else "left")
    for job in jobs:
        shards = f"{job.shards_finished}/{job.shards}"
        created = f"{job.created_at:%Y-%m-%d %H:%M}"
        table.add_row(job.id, job.state, created, f"{job.prompts:,}", shards, f"{job.report.pairs:,}")
    console.print(table)


@app.command()
def show(job_id: JobId, as_json: Json = False) -> None:
    """One job, and what became of its images."""
    with gateway() as client:
        _print(client.job(job_id), as_json)


@app.command()
def follow(job_id: JobId, as_json: Json = False) -> None:
    """Progress until the job has ended; code 1 where it failed or was cancelled."""
    with gateway() as client:
        job = follow_bars(client, job_id)
        _print(job, as_json)
    end_as(job.state)


@app.command()
def cancel(job_id: JobId, as_json: Json = False) -> None:
    """Stop a job; what is finished stays."""
    with gateway() as client:
        _print(client.cancel(job_id), as_json)


@app.command()
def retry(job_id: JobId, as_json: Json = False) -> None:
    """Run a cancelled or failed job again: only what is missing."""
    with gateway() as client:
        _print(client.retry(job_id), as_json)


def recover(as_json: Json = False) -> None:
    """Set every unfinished job and run going again, after Redis was lost."""
    with gateway() as client:
        recovered = client.recover()
    if as_json:
        print_json(recovered.model_dump(mode="json"))
        return
    for kind, found in (("jobs", recovered.jobs), ("runs", recovered.runs)):
        names = ", ".join(each.id for each in found) or "none"
        console.print(f"{len(found)} {kind} had something missing: {names}")


def _print(job: Job, as_json: bool) -> None:
    if as_json:
        print_json(job)
    else:
        console.print(summary(job), highlight=False)
