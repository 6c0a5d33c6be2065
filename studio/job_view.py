"""Jobs as people read them: a table of all, and what became of one."""

import html
from collections.abc import Mapping, Sequence

from retouche.charts import GREEN, ORANGE, bars
from retouche.contract.jobs import Job
from studio import notices

STATES = {"queued": "○ queued", "running": "▶ running", "finished": "✓ finished", "failed": "✕ failed"}
STATES["cancelled"] = "■ cancelled"

REASONS = {
    "generation_failed": "the image could not be drawn",
    "unreadable_image": "the image could not be read",
    "critique_failed": "the critic failed",
    "no_findings": "nothing to correct",
    "instruction_failed": "no instructions came",
    "no_instructions": "no edit was thought of",
    "editing_failed": "the edit failed",
    "unchanged": "the edit changed nothing",
    "reward_failed": "could not be scored",
    "tie": "no clear difference",
    "disagreement": "reward models disagree",
    "edit_worse": "worse, relabelling is off",
    "not_best": "a better edit was kept",
}


def label(job: Job) -> str:
    """A job in a list to choose from."""
    return f"{job.id} · {STATES[job.state]} · {job.prompts:,} prompts · {job.report.pairs:,} pairs"


def table(jobs: Sequence[Job], rates: Mapping[str, float]) -> str:
    """Every job in a row; `rates`: images a second of those that run."""
    if not jobs:
        return notices.empty("There is no job yet. Write some prompts and submit them: this takes a minute.")
    rows = "".join(_row(job, rates.get(job.id)) for job in jobs)
    return (
        "<div class='scroll' tabindex='0' role='region' aria-label='Jobs'><table class='jobs list'>"
        "<thead><tr><th>Job<th>State<th>Progress<th class='n'>Pairs<th>What was dropped</tr></thead>"
        f"<tbody>{rows}</tbody></table></div>"
    )


def detail(job: Job) -> str:
    """What became of one job's images, by reason."""
    counts = {"became pairs": job.report.pairs} | {
        REASONS.get(reason, reason): count
        for reason, count in sorted(job.report.dropped.items(), key=lambda entry: -entry[1])
    }
    error = notices.bad(f"{job.error}") if job.error else ""
    report = job.report
    figures = (
        f"{report.prompts:,} prompts → {report.images:,} images → {report.images_with_findings:,} with "
        f"something to correct → {report.edits:,} edits → {report.pairs:,} pairs"
    )
    lost = ", ".join(
        f"{progress.failed:,} of {stage}" for stage, progress in report.stages.items() if progress.failed
    )
    failures = (
        f"<p class='note'>Calls that failed and were tried again or given up: {lost}.</p>" if lost else ""
    )
    chart = bars("What became of them", counts, GREEN if not job.error else ORANGE)
    return f"{error}<p><code>{job.id}</code> is {STATES[job.state]}: {figures}.</p>{failures}{chart}"


def _row(job: Job, rate: float | None) -> str:
    report = job.report
    dropped = ", ".join(
        f"{REASONS.get(reason, reason)} {count:,}"
        for reason, count in sorted(report.dropped.items(), key=lambda entry: -entry[1])[:3]
    )
    error = f"<br><span class='wrong'>✕ {html.escape(job.error)}</span>" if job.error else ""
    speed = f", {rate:.1f}/s" if rate else ""
    share = _share_done(job)
    return (
        f"<tr data-job='{job.id}'><td><code>{job.id}</code><br><span class='note'>"
        f"{job.created_at:%Y-%m-%d %H:%M}, {job.prompts:,} prompts</span>"
        f"<td data-state='{job.state}'>{STATES[job.state]}"
        f"<td><div class='meter' role='img' aria-label='{share:.0%} done'>"
        f"<i style='width:{share:.0%}'></i></div>"
        f"<span class='note'>{report.images:,} images{speed}</span>"
        f"<td class='n' data-label='pairs'>{report.pairs:,}<td class='dropped'>{dropped or '–'}{error}</tr>"
    )


def _share_done(job: Job) -> float:
    """By shards; those under way by the images that were drawn, up to nine tenths: scores come last."""
    if job.state == "finished":
        return 1.0
    drawn = job.report.images / (job.prompts * job.images_per_prompt)
    return max(job.shards_finished / job.shards, min(0.9, drawn))
