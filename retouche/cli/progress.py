"""A job's progress as bars, one a stage."""

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

from retouche.cli.terminal import console
from retouche.client import Retouche
from retouche.contract.jobs import Job
from retouche.contract.stages import STAGES


def follow(client: Retouche, job_id: str) -> Job:
    """Show how far the job is until it has ended; the job as it ended."""
    columns = (TextColumn("{task.description:<12}"), BarColumn(40), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console) as progress:
        job = client.job(job_id)
        images = job.prompts * job.images_per_prompt
        bars: dict[str, TaskID] = {stage: progress.add_task(stage, total=images) for stage in STAGES}
        for event in client.events(job_id):
            job = event.job
            for stage, bar in bars.items():
                done = job.report.stages[stage].done if stage in job.report.stages else 0
                ended = event.event != "progress"
                progress.update(bar, completed=done, total=done if ended else max(images, done))
    return job


def summary(job: Job) -> str:
    """What became of the job's images, for a person."""
    report = job.report
    lines = [
        f"{job.id} is {job.state}: {report.pairs} pairs from {report.images} images, {report.edits} edits"
    ]
    for reason, count in sorted(report.dropped.items(), key=lambda entry: -entry[1]):
        lines.append(f"  {count:>6}  {reason.replace('_', ' ')}")
    if job.error:
        lines.append(job.error)
    return "\n".join(lines)
