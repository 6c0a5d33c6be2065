"""Style Alignment (arXiv 2406.06382, section 5) in the shapes world: `python -m shapes.style`.

One instruction edits every image of the base; the edited images are the chosen ones. Every objective trains
on the same pairs, and is judged by the Fréchet distance of what the tuned model then draws for other prompts
to the style's images, before and after. The exact checker says what the style costs: a prompt that names
another background is drawn less rightly.
"""

import asyncio
import json
import random
from pathlib import Path

import typer
from rich.console import Console
from rich.table import Table

from retouche.client import AsyncRetouche, Retouche
from retouche.contract.evaluation import TRUTH, Evaluation
from retouche.contract.jobs import CurationSpec
from retouche.contract.runs import (
    DiffusionDpo,
    DiffusionRpo,
    Lora,
    Objective,
    Optimisation,
    RunSpec,
    Sft,
    TrainingData,
)
from retouche.evaluation import evaluate
from retouche.local.system import running
from shapes.curated import curated
from shapes.prompts import held_out_prompts, train_prompts
from shapes.truth import score

STYLE = "make the background black"
BASE, RELATIONS = "shapes/models/base", "shapes/models/reward_clip"
OBJECTIVES: dict[str, Objective] = {
    "diffusion_rpo": DiffusionRpo(beta=50, temperature=0.02, relation_model=RELATIONS),
    "diffusion_dpo": DiffusionDpo(beta=50),
    "sft": Sft(),
}
_console = Console(stderr=True)


def main(
    data: Path = Path(".retouche/style"),
    prompts: int = 200,
    held_out: int = 200,
    steps: int = 100,
    batch_size: int = 16,
    learning_rate: float = 3e-4,
) -> None:
    """Curate, train with every objective, measure; everything that was made stays in `data`."""
    data.mkdir(parents=True, exist_ok=True)
    asked = _sampled(train_prompts(), prompts)
    how = Optimisation(
        steps=steps,
        batch_size=batch_size,
        learning_rate=learning_rate,
        warmup_steps=10,
        checkpoint_every_steps=steps,
        log_every_steps=25,
    )
    with running(data) as system, Retouche(system.url) as client:
        job = curated(client, CurationSpec(prompts=asked, style=STYLE))
        _console.print(f"{job.report.pairs} pairs of one style from {prompts} prompts")
        found = {
            name: asyncio.run(
                _measured(system.url, _trained(client, job.id, objective, how), job.id, held_out)
            )
            for name, objective in OBJECTIVES.items()
        }
    _show(found)
    print(json.dumps({"pairs": job.report.pairs, "prompts": held_out, "steps": steps, **_figures(found)}))


def _sampled(prompts: list[str], count: int) -> tuple[str, ...]:
    """Of the prompts that name another background than the style's."""
    others = [prompt for prompt in prompts if "black background" not in prompt]
    return tuple(random.Random(0).sample(others, count))


def _trained(client: Retouche, job: str, objective: Objective, how: Optimisation) -> str:
    spec = RunSpec(
        data=TrainingData(job=job), base=BASE, objective=objective, tuning=Lora(rank=16), optimisation=how
    )
    run = client.wait_run(client.submit_run(spec).id)
    if run.state != "finished":
        raise SystemExit(f"{run.id} {run.state}: {run.error}")
    _console.print(f"{run.id}: {objective.name}, trained")
    return run.id


async def _measured(url: str, run: str, job: str, count: int) -> Evaluation:
    async with AsyncRetouche(url) as client:
        return await evaluate(client, run, _sampled(held_out_prompts(), count), truth=score, style=job)


def _figures(found: dict[str, Evaluation]) -> dict[str, object]:
    return {
        name: {
            "distance_before": round(each.style.base, 5),
            "distance_after": round(each.style.tuned, 5),
            "checker_before": round(each.judgements[TRUTH].base_mean, 4),
            "checker_after": round(each.judgements[TRUTH].tuned_mean, 4),
        }
        for name, each in found.items()
        if each.style is not None
    }


def _show(found: dict[str, Evaluation]) -> None:
    table = Table("objective", "distance before", "after", "checker before", "after", box=None)
    for name, figures in _figures(found).items():
        assert isinstance(figures, dict)
        table.add_row(name, *(f"{figure:.4f}" for figure in figures.values()))
    _console.print(table)


if __name__ == "__main__":
    typer.run(main)
