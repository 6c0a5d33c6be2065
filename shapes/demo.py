"""The main job and a training run on what it made, and what the exact checker says of both.

`python -m shapes.demo` curates on held-out prompts, trains a LoRA on the pairs, and compares base and tuned
model on other held-out prompts.
"""

import asyncio
import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import numpy as np
import typer
from rich.console import Console
from rich.table import Table

from retouche.cli.runs import follow as follow_run
from retouche.client import AsyncRetouche, Retouche
from retouche.contact_sheet import write_sheet
from retouche.contract.evaluation import TRUTH, Evaluation
from retouche.contract.jobs import CurationSpec, ImageTrace, Job, PreferencePair
from retouche.contract.runs import DiffusionDpo, Lora, Optimisation, Run, RunSpec, TrainingData
from retouche.evaluation import evaluate
from retouche.images import decode
from retouche.local.system import running
from retouche.report import write_report
from shapes.check import Report, check
from shapes.curated import curated
from shapes.prompts import HELD_OUT_SCENES, held_out_prompts
from shapes.render import Pixels
from shapes.truth import score as truth

SHEET_ROWS = 8
TRAINING_STEPS = 60
PROMPTS = 48
EVALUATION_PROMPTS = 64  # of other scenes
_console = Console(stderr=True, markup=False, emoji=False)  # paths may hold brackets


def main(
    data: Path = Path(".retouche/demo"),
    prompts: Annotated[int, typer.Option(min=1, max=HELD_OUT_SCENES - EVALUATION_PROMPTS)] = PROMPTS,
    images: int = 2,
    seed: int = 0,
) -> None:
    """Start everything on this machine, curate, and say what came out."""
    data.mkdir(parents=True, exist_ok=True)
    spec = CurationSpec(prompts=tuple(held_out_prompts()[:prompts]), images_per_prompt=images, seed=seed)
    with running(data, told=_tell) as system, Retouche(system.url) as client:
        began = time.monotonic()
        job = curated(client, spec)
        seconds = time.monotonic() - began
        sheet = write_sheet(client, job.id, data / "contact-sheet.png", most=SHEET_ROWS)
        traces, pairs = list(client.traces(job.id)), list(client.pairs(job.id))
        figures = _figures(client, job, traces, pairs) | {"seconds": round(seconds, 1)}
        _show(job, figures, sheet)
        began = time.monotonic()
        run = follow_run(client, client.submit_run(_training(job.id)).id)
        if run.state != "finished":
            raise SystemExit(f"the run is {run.state}: {run.error}")
        figures["training_seconds"] = round(time.monotonic() - began, 1)
        report = data / "report.html"
        evaluation = asyncio.run(_evaluated(system.url, run.id, prompts, report))
    figures |= _compared(evaluation)
    _show_training(run, evaluation, report)
    print(json.dumps(figures))


def _training(job_id: str) -> RunSpec:
    """The recipe that shapes/compare.py found to work, as a LoRA and with fewer steps."""
    return RunSpec(
        data=TrainingData(job=job_id),
        objective=DiffusionDpo(beta=2000),
        tuning=Lora(rank=16),
        optimisation=Optimisation(steps=TRAINING_STEPS, batch_size=16, learning_rate=5e-4, warmup_steps=5),
    )


async def _evaluated(url: str, run_id: str, seen: int, report: Path) -> Evaluation:
    """Base against tuned on held-out prompts that the pairs are not about."""
    prompts = held_out_prompts()[seen:][:EVALUATION_PROMPTS]
    async with AsyncRetouche(url) as client:
        evaluation = await evaluate(client, run_id, prompts, truth=truth)
        await client.keep_evaluation(evaluation)
        await write_report(client, run_id, report)
    return evaluation


def _compared(evaluation: Evaluation) -> dict[str, float | int]:
    judged = evaluation.judgements[TRUTH]
    return {
        "base_score": round(judged.base_mean, 3),
        "tuned_score": round(judged.tuned_mean, 3),
        "win_rate": round(judged.win_rate.value, 3),
    }


def _figures(
    client: Retouche, job: Job, traces: Sequence[ImageTrace], pairs: Sequence[PreferencePair]
) -> dict[str, float | int]:
    """What the exact checker says of the generated images and of the pairs' labels."""
    faulty = [
        trace
        for trace in traces
        if (report := _judged(client, trace.image, trace.prompt)) is not None and report.wrong_attribute
    ]
    places = {(trace.prompt_index, trace.image_index) for trace in faulty}
    from_faulty = [pair for pair in pairs if (pair.prompt_index, pair.image_index) in places]
    better = 0
    for pair in pairs:
        chosen, rejected = (_judged(client, image, pair.prompt) for image in (pair.chosen, pair.rejected))
        better += chosen is not None and rejected is not None and chosen.score > rejected.score
    return {
        "prompts": job.report.prompts,
        "images": job.report.images,
        "faulty_images": len(faulty),
        "pairs": len(pairs),
        "yield": round(len(from_faulty) / max(1, len(faulty)), 3),
        "chosen_truly_better": round(better / max(1, len(pairs)), 3),
    }


def _tell(name: str, what: str) -> None:
    _console.print(f"{name:<12} {what}", style="dim")


def _judged(client: Retouche, image: str | None, prompt: str) -> Report | None:
    return None if image is None else check(_pixels(client.image(image)), prompt)


def _pixels(data: bytes) -> Pixels:
    return np.asarray(decode(data))


def _show(job: Job, figures: dict[str, float | int], sheet: Path) -> None:
    table = Table(title=f"What became of {job.report.images} images", title_justify="left", box=None)
    table.add_column("outcome")
    table.add_column("count", justify="right")
    table.add_row("preference pairs", str(job.report.pairs), style="green")
    for reason, count in sorted(job.report.dropped.items(), key=lambda entry: -entry[1]):
        table.add_row(reason.replace("_", " "), str(count))
    _console.print(table)
    _console.print(
        f"\n{figures['faulty_images']} images had a wrong attribute; pairs per such image: {figures['yield']}"
        f"\nshare of pairs with the truly better image chosen: {figures['chosen_truly_better']}"
        f"\n\nLook at   {sheet}\n"
    )


def _show_training(run: Run, evaluation: Evaluation, report: Path) -> None:
    table = Table(title="Base and tuned model, on prompts not seen", title_justify="left", box=None)
    for column in ("score", "base", "tuned", "win rate"):
        table.add_column(column, justify="left" if column == "score" else "right")
    for name, judged in evaluation.judgements.items():
        wins = judged.win_rate
        table.add_row(
            "exact checker" if name == TRUTH else name,
            f"{judged.base_mean:.3f}",
            f"{judged.tuned_mean:.3f}",
            f"{wins.value:.2f} [{wins.low:.2f}, {wins.high:.2f}]",
        )
    _console.print(table)
    _console.print(
        f"\nLook at   {report}"
        f"\nKeep it   retouche up --data {report.parent}"
        f"\n          retouche pairs export {run.spec.data.job} --output pairs.parquet"
        f"\n          retouche runs artifacts {run.id} --output lora"
        "\n          retouche studio"
        "\nNext      retouche curate 'a purple square above a red circle on a gray background'\n"
    )


if __name__ == "__main__":
    typer.run(main)
