"""`retouche loop`: curate with the latest model, train, evaluate, and again.

Jobs and runs are named by their content, so the same loop started again finds what it has done and goes on.
"""

import asyncio
from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from retouche.cli.evaluate import named_truth, read_prompts
from retouche.cli.progress import follow as follow_job
from retouche.cli.runs import follow as follow_run
from retouche.cli.settings import Settings
from retouche.cli.terminal import Json, console, errors, gateway, print_json
from retouche.cli.train import read_specification
from retouche.client import AsyncRetouche, Retouche
from retouche.contract.evaluation import Evaluation
from retouche.contract.jobs import CurationSpec, GenerationParameters
from retouche.contract.runs import Run, RunSpec, TrainingData
from retouche.errors import Conflict
from retouche.evaluation import Truth, evaluate


def loop(
    prompts: Annotated[Path, typer.Option(help="A file: what pairs are curated for.")],
    evaluation_prompts: Annotated[Path, typer.Option(help="A file: what base and model are compared on.")],
    rounds: Annotated[int, typer.Option(min=1)] = 3,
    images_per_prompt: Annotated[int, typer.Option(min=1)] = 1,
    specification: Annotated[
        Path | None, typer.Option("--spec", help="A YAML file: the run of every round, without its `data`.")
    ] = None,
    truth: Annotated[str | None, typer.Option(help="MODULE:FUNCTION, as in `retouche evaluate`.")] = None,
    seed: int = 0,
    as_json: Json = False,
) -> None:
    """Each round curates with the last one's model, and trains the base on the pairs of all rounds so far."""
    with errors():
        curated, compared, judge = read_prompts(prompts), read_prompts(evaluation_prompts), named_truth(truth)
    jobs: list[str] = []
    evaluations: list[Evaluation] = []
    adapter: str | None = None
    with gateway() as client:
        for number in range(rounds):
            console.rule(f"round {number + 1} of {rounds}")
            jobs.append(_curate(client, curated, images_per_prompt, adapter, seed + number))
            adapter = _train(client, specification, jobs).id
            evaluations.append(asyncio.run(_evaluate(adapter, compared, judge)))
            _show(evaluations)
    if as_json:
        print_json(
            [{"run": found.run, "judgements": found.model_dump()["judgements"]} for found in evaluations]
        )


def _curate(client: Retouche, prompts: list[str], images: int, adapter: str | None, seed: int) -> str:
    spec = CurationSpec(
        models=client.deployed_models(),
        prompts=tuple(prompts),
        images_per_prompt=images,
        seed=seed,
        generation=GenerationParameters(adapter=adapter),
    )
    job = follow_job(client, client.submit(spec).id)
    if job.state != "finished":
        raise Conflict(f"{job.id} is {job.state}: {job.error}; retry it, then start the same loop again")
    return job.id


def _train(client: Retouche, specification: Path | None, jobs: list[str]) -> Run:
    data = TrainingData(job=jobs[0], more_jobs=tuple(jobs[1:]))
    spec = RunSpec(data=data) if specification is None else read_specification(specification, data)
    run = follow_run(client, client.submit_run(spec).id)
    if run.state != "finished":
        raise Conflict(f"{run.id} is {run.state}: {run.error}; retry it, then start the same loop again")
    return run


async def _evaluate(run_id: str, prompts: list[str], truth: Truth | None) -> Evaluation:
    settings = Settings()
    async with AsyncRetouche(settings.url, api_key=settings.api_key) as client:
        return await client.keep_evaluation(await evaluate(client, run_id, prompts, truth=truth))


def _show(evaluations: list[Evaluation]) -> None:
    table = Table("round", "run", *evaluations[0].judgements, title="tuned minus base", box=None)
    for number, found in enumerate(evaluations):
        cells = [f"{judged.difference:+.4f}" for judged in found.judgements.values()]
        table.add_row(str(number + 1), found.run, *cells)
    console.print(table)
