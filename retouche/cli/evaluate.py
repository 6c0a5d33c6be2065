"""`retouche evaluate`: a tuned model against its base, on prompts of your own."""

import asyncio
from importlib import import_module
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.progress import Progress
from rich.table import Table

from retouche.cli.settings import Settings
from retouche.cli.terminal import Json, console, errors, in_a_folder, print_json
from retouche.client import AsyncRetouche
from retouche.contract.evaluation import Evaluation
from retouche.errors import BadPrompts, BadRequest
from retouche.evaluation import Truth, evaluate
from retouche.evaluation_report import write_report
from retouche.intake.prompts import prompts_of
from retouche.intake.rows import Skipped


def command(
    run: Annotated[str, typer.Argument(metavar="RUN")],
    prompts: Annotated[Path, typer.Option(help="One a line, or CSV, TSV, JSONL, JSON or Parquet.")],
    images_per_prompt: Annotated[int, typer.Option(min=1)] = 1,
    seed: int = 0,
    truth: Annotated[
        str | None, typer.Option(help="MODULE:FUNCTION of (image bytes, prompt): how right an image is.")
    ] = None,
    style: Annotated[
        str | None, typer.Option(help="A job of one style: how near do the images come to its chosen ones?")
    ] = None,
    report: Annotated[Path | None, typer.Option(help="An HTML file to write.", callback=in_a_folder)] = None,
    as_json: Json = False,
) -> None:
    """Compare the images of a run's LoRA with those of its base, prompt by prompt and seed by seed."""
    with errors():
        found = asyncio.run(
            _evaluate(
                run,
                report,
                prompts=read_prompts(prompts),
                images_per_prompt=images_per_prompt,
                seed=seed,
                truth=named_truth(truth),
                style=style,
            )
        )
    if as_json:
        print_json(found)
    else:
        _show(found)
        if report is not None:
            console.print(f"Look at {report}", highlight=False, soft_wrap=True)


async def _evaluate(run: str, report: Path | None, **how: Any) -> Evaluation:
    settings = Settings()
    async with AsyncRetouche(settings.url, api_key=settings.api_key) as client:
        with Progress(console=console) as progress:
            bar = progress.add_task("images", total=None)
            found = await evaluate(
                client,
                run,
                told=lambda done, total: progress.update(bar, completed=done, total=total),
                **how,
            )
        await client.keep_evaluation(found)
        if report is not None:
            await write_report(client, found, report)
    return found


def read_prompts(file: Path) -> list[str]:
    """The prompts of a file; BadPrompts if there is no such file, none in it, or one that cannot be used."""
    skipped = Skipped()
    prompts = list(prompts_of(file, None, skipped))
    if skipped.problems:
        raise BadPrompts(skipped.problems[0])
    return prompts


def named_truth(name: str | None) -> Truth | None:
    """The function that MODULE:FUNCTION names; BadRequest if there is none."""
    if name is None:
        return None
    module, _, function = name.partition(":")
    try:
        found: Truth = getattr(import_module(module), function)
    except (ImportError, AttributeError, ValueError, TypeError) as error:  # what names of many shapes raise
        raise BadRequest(f"--truth: {name!r} names no function ({error}); give MODULE:FUNCTION") from None
    if not callable(found):
        raise BadRequest(f"--truth: {name!r} is {type(found).__name__}, no function; give MODULE:FUNCTION")
    return found


def _show(found: Evaluation) -> None:
    table = Table("score", "base", "tuned", "difference", "win rate", box=None)
    for name, judged in found.judgements.items():
        means = f"{judged.base_mean:.4f}", f"{judged.tuned_mean:.4f}"
        table.add_row(name, *means, f"{judged.difference:+.4f}", f"{judged.win_rate:.3f}")
    console.print(table)
    if (style := found.style) is not None:
        console.print(
            f"distance to the {style.style_images} chosen images of {style.job} ({style.reward}): "
            f"base {style.base:.4f}, tuned {style.tuned:.4f}",
            highlight=False,
        )
    if found.hacked:
        hacked = ", ".join(found.hacked)
        console.print(f"{hacked} rose while the truth did not: reward hacking", style="yellow")
