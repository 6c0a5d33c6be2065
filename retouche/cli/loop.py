"""`retouche loop`: curate with the latest model, train, evaluate, and again.

Jobs and runs are named by their content, so the same loop started again finds what it has done and goes on.
"""

import asyncio
import time
from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from retouche.cli.evaluate import named_truth, read_prompts
from retouche.cli.progress import follow as follow_job
from retouche.cli.runs import follow as follow_run
from retouche.cli.settings import Settings
from retouche.cli.terminal import Json, console, errors, gateway, print_json
from retouche.cli.train import specified
from retouche.client import AsyncRetouche, Retouche
from retouche.contract.evaluation import Evaluation
from retouche.contract.jobs import CurationSpec, GenerationParameters, Job
from retouche.contract.runs import Lora, Run, TrainingData
from retouche.errors import Conflict, InvalidPayload, Unavailable
from retouche.evaluation import Truth, evaluate

_MOST_LOADING_SECONDS = 900


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
    """Each round curates with the last one's model, and trains the base on the pairs of all rounds so far.

    A later round that gives no pairs trains nothing, and the next one draws other images with the same model.
    """
    with errors():
        compared, judge = read_prompts(evaluation_prompts), named_truth(truth)
        read_prompts(prompts)
        _check(specification)
    jobs: list[str] = []
    evaluations: dict[int, Evaluation] = {}
    adapter: str | None = None
    with gateway() as client:
        prompt_set = client.upload_prompts(prompts).prompt_set
        for number in range(1, rounds + 1):
            console.rule(f"round {number} of {rounds}")
            job = _curate(client, prompt_set, images_per_prompt, adapter, seed + number - 1)
            if jobs and not job.report.pairs:
                console.print(f"{job.id} has no pairs: nothing new to train on; retouche report says why")
                continue
            jobs.append(job.id)
            adapter = _train(client, specification, jobs).id
            evaluations[number] = asyncio.run(_evaluate(adapter, compared, judge))
            _show(evaluations)
    if as_json:
        print_json(
            [
                {"round": number, "run": found.run, "judgements": found.model_dump()["judgements"]}
                for number, found in evaluations.items()
            ]
        )


def pinned(client: Retouche, spec: CurationSpec) -> CurationSpec:
    """The job with its models, once all are ready: without them the loop would be another when resumed.

    Raises:
        Unavailable: a service did not become ready.
    """
    end, told = time.monotonic() + _MOST_LOADING_SECONDS, ""
    while (found := client.pinned(spec)) is None:
        waiting = ", ".join(stage for stage, status in client.services().items() if not status.readiness)
        if waiting and waiting != told:
            console.print(f"waiting for {waiting}", highlight=False)
            told = waiting
        if time.monotonic() > end:
            raise Unavailable(
                f"{told} did not become ready; see retouche doctor, then start the same loop again"
            )
        time.sleep(1)
    return found


def _check(specification: Path | None) -> None:
    """Refuse, before a round is curated for it, what the round could not train or compare."""
    spec = specified(specification, {"data": {"job": "job-0000000000000000"}})
    if not isinstance(spec.tuning, Lora):
        raise InvalidPayload(
            f"--spec: tuning.kind is {spec.tuning.kind!r}, but each round draws with the last one's LoRA "
            "over the deployed base; leave it out, or make it lora"
        )


def _curate(client: Retouche, prompt_set: str, images: int, adapter: str | None, seed: int) -> Job:
    spec = CurationSpec(
        prompt_set=prompt_set,
        images_per_prompt=images,
        seed=seed,
        generation=GenerationParameters(adapter=adapter),
    )
    job = follow_job(client, client.submit(pinned(client, spec)).id)
    if job.state != "finished":
        raise Conflict(f"{job.id} is {job.state}: {job.error}; retry it, then start the same loop again")
    return job


def _train(client: Retouche, specification: Path | None, jobs: list[str]) -> Run:
    data = TrainingData(job=jobs[0], more_jobs=tuple(jobs[1:]))
    spec = specified(specification, {"data": data.model_dump()})
    run = follow_run(client, client.submit_run(spec).id)
    if run.state != "finished":
        raise Conflict(f"{run.id} is {run.state}: {run.error}; retry it, then start the same loop again")
    return run


async def _evaluate(run_id: str, prompts: list[str], truth: Truth | None) -> Evaluation:
    settings = Settings()
    async with AsyncRetouche(settings.url, api_key=settings.api_key) as client:
        return await client.keep_evaluation(await evaluate(client, run_id, prompts, truth=truth))


def _show(evaluations: dict[int, Evaluation]) -> None:
    names = next(iter(evaluations.values())).judgements
    table = Table("round", "run", *names, title="tuned minus base", box=None)
    for number, found in evaluations.items():
        cells = [f"{judged.difference:+.4f}" for judged in found.judgements.values()]
        table.add_row(str(number), found.run, *cells)
    console.print(table)
