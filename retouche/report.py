"""A job or a run as one HTML file that needs nothing but itself: pictures, distributions, tables."""

import asyncio
import html
from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import islice
from pathlib import Path

from retouche.charts import bars, before_and_after, histogram
from retouche.client import AsyncRetouche
from retouche.contract.jobs import Job, PreferencePair
from retouche.contract.reviews import Review
from retouche.contract.runs import Run
from retouche.evaluation_report import page, section
from retouche.images import to_data_uri
from retouche.reviews import newest
from retouche.training_curves import training_curves

SHOWN = 24  # pairs with pictures: from the clearest to the closest
_AT_ONCE = 8


async def write_report(client: AsyncRetouche, identifier: str, file: Path) -> Path:
    """Write the report of a job (`job-...`) or a run (`run-...`).

    Raises:
        JobNotFound, RunNotFound: there is none of that name.
    """
    if identifier.startswith("run-"):
        run = await client.run(identifier)
        content = await _run(client, run)
        if run.spec.data.job is not None:
            content += await _job(client, await client.job(run.spec.data.job))
    else:
        content = await _job(client, await client.job(identifier))
    await asyncio.to_thread(file.write_text, page(identifier, content))
    return file


async def _run(client: AsyncRetouche, run: Run) -> str:
    metrics = await client.run_metrics(run.id)
    evaluations = await client.evaluations(run.id)
    said = run.spec.model_dump(mode="json", exclude_none=True)
    rows = "".join(
        f"<tr><td>{name}<td><code>{html.escape(str(value))}</code></tr>" for name, value in said.items()
    )
    compared = (
        await section(client, evaluations[0])
        if evaluations
        else f"<p class=note>Nobody has compared it with its base yet: retouche evaluate {run.id}</p>"
    )
    curves = training_curves(metrics) if metrics else "<p class=note>Nothing is logged yet.</p>"
    error = f"<p class=warning>{html.escape(run.error)}</p>" if run.error else ""
    return (
        f"<h1>{run.id}</h1><p>{run.state}, step {run.step:,} of {run.spec.optimisation.steps:,}</p>{error}"
        f"<h2>Did it get better?</h2>{compared}<h2>How it learned</h2><div class=plots>{curves}</div>"
        f"<h2>What was asked for</h2><table>{rows}</table>"
    )


async def _job(client: AsyncRetouche, job: Job) -> str:
    pairs = [pair async for pair in client.pairs(job.id)]
    decisions = newest(await client.reviews(job.id))
    shown = _from_clear_to_close(pairs)
    references = sorted({image for pair in shown for image in (pair.chosen, pair.rejected)})
    pictures = await _fetched(client, references)
    sheet = "".join(_row(pair, pictures, decisions.get(pair.id)) for pair in shown)
    report = job.report
    figures = (
        f"{report.prompts:,} prompts → {report.images:,} images → {report.images_with_findings:,} with "
        f"something to correct → {report.edits:,} edits → {report.pairs:,} pairs"
    )
    error = f"<p class=warning>{html.escape(job.error)}</p>" if job.error else ""
    return (
        f"<h1>{job.id}</h1><p>{job.state}: {figures}.</p>{error}"
        f"<div class=plots>{_distributions(job, pairs, decisions)}</div>"
        f"<h2>{len(shown)} of {len(pairs):,} pairs</h2><p class=note>From the clearest to the closest; the "
        f"chosen image is framed.</p><div class=sheet>{sheet or 'There are no pairs.'}</div>"
    )


def _distributions(job: Job, pairs: Sequence[PreferencePair], decisions: Mapping[str, Review]) -> str:
    """What became of the images, the kinds of instruction, every reward model's margins, the decisions."""
    dropped = sorted(job.report.dropped.items(), key=lambda entry: -entry[1])
    became = {"pairs": job.report.pairs} | {reason.replace("_", " "): count for reason, count in dropped}
    actions = Counter(str(pair.instruction.action) for pair in pairs)
    labels = {"the edit is chosen": sum(pair.chosen_is_edit for pair in pairs)}
    labels["the original is chosen"] = len(pairs) - labels["the edit is chosen"]
    charts = [
        bars("What became of the images", became),
        bars("Kinds of instruction", dict(actions.most_common())),
        bars("Labels", labels),
    ]
    for name in sorted({name for pair in pairs for name in pair.chosen_scores}):
        margins = [pair.chosen_scores[name] - pair.rejected_scores.get(name, 0) for pair in pairs]
        charts.append(histogram(f"{name}: chosen minus rejected", margins))
    if decisions:
        decided = Counter(str(review.decision) for review in decisions.values())
        charts.append(bars("Decisions of people", dict(decided)))
    return "".join(charts)


def _from_clear_to_close(pairs: Sequence[PreferencePair]) -> list[PreferencePair]:
    """At most SHOWN of them, evenly over the margins; these are relative to each score's size."""

    def clearness(pair: PreferencePair) -> float:
        scores = pair.chosen_scores.items()
        relative = [
            (score - pair.rejected_scores.get(name, score)) / (abs(score) or 1.0) for name, score in scores
        ]
        return sum(relative) / len(relative) if relative else 0.0

    ordered = sorted(pairs, key=clearness, reverse=True)
    return list(islice(ordered[:: max(1, -(-len(ordered) // SHOWN))], SHOWN))


def _row(pair: PreferencePair, pictures: Mapping[str, bytes], review: Review | None) -> str:
    images = "".join(
        f"<img class={'chosen' if image == pair.chosen else 'rejected'} alt='{kind}' title='{kind}' "
        f"src='{to_data_uri(pictures[image])}'>"
        for kind, image in (("original", pair.original), ("edited", pair.edited))
    )
    findings = "; ".join(f"{finding.subject} {finding.problem}" for finding in pair.findings)
    decision = f"<p>{review.decision} by {html.escape(review.reviewer)}</p>" if review else ""
    return (
        f"<article>{images}<section><p><b>{html.escape(pair.prompt)}</b></p>"
        f"<p class=note>{html.escape(findings)}</p><p>→ {html.escape(pair.instruction.text)}</p>"
        f"{decision}</section>"
        f"<section>{before_and_after(pair.original_scores, pair.edited_scores)}</section></article>"
    )


async def _fetched(client: AsyncRetouche, references: Sequence[str]) -> dict[str, bytes]:
    room = asyncio.Semaphore(_AT_ONCE)

    async def one(reference: str) -> bytes:
        async with room:
            return await client.image(reference)

    return dict(zip(references, await asyncio.gather(*map(one, references)), strict=True))
