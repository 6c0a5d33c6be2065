"""Training runs: their curves as they grow, and how the tuned model compares with its base."""

import asyncio
from dataclasses import dataclass
from typing import Any

import gradio as gr
from pydantic import ValidationError

from retouche.client import AsyncRetouche
from retouche.errors import BadPrompts, RetoucheError
from retouche.evaluation import evaluate
from studio import notices, run_form, run_view
from studio.acting import acting, possible
from studio.gateways import Gateways, newest
from studio.job_list import listing
from studio.live import Live

_COMPARISONS = 24
_MOST_PROMPTS = 200
_PROGRESS = gr.Progress()  # as a default it asks gradio for one of the call's own


@dataclass(frozen=True)
class RunsTab:
    live: Live
    list_jobs: dict[str, Any]  # what an event runs that lists the jobs to train on


def build(gateways: Gateways, key: gr.Textbox) -> RunsTab:
    """The tab's content."""
    with gr.Accordion("Train on a job’s pairs", open=False, elem_id="train"):
        form = run_form.build()
        start = gr.Button("Start the run", variant="primary", elem_id="start")
        started = gr.HTML(elem_id="started")
    chosen = gr.Dropdown([], label="Run", elem_id="run", allow_custom_value=True)
    summary = gr.HTML("<div class='notice empty' role='status'><div>Asking for the runs…</div></div>")
    with gr.Row():
        cancel = gr.Button("Stop it after a last checkpoint", variant="stop")
        retry = gr.Button("Go on with it")
    outcome = gr.HTML()
    curves = gr.HTML(elem_id="curves")
    gr.HTML("<h2>Did it get better?</h2>")
    table, pictures = gr.HTML(elem_id="evaluation"), gr.HTML()
    with gr.Accordion("Compare it on prompts of your own", open=False):
        prompts = gr.Textbox(label="Prompts, one a line", lines=4, elem_id="evaluation-prompts")
        images = gr.Slider(1, 8, value=1, step=1, label="Images per prompt", info="Each from another seed.")
        compare = gr.Button("Compare with the base", elem_id="compare")
        compared = gr.HTML()
    timer = gr.Timer(2, active=False)
    watch = {
        "fn": _watching(gateways),
        "inputs": [key, chosen],
        "outputs": [chosen, summary, curves, cancel, retry],
    }
    live = Live(timer, key, watch)
    judge = {"fn": _judging(gateways), "inputs": [key, chosen], "outputs": [table, pictures]}
    chosen.change(**live.look)
    chosen.change(**judge)
    cancel.click(acting(gateways, AsyncRetouche.cancel_run), [key, chosen], outcome)
    retry.click(acting(gateways, AsyncRetouche.retry_run), [key, chosen], outcome)
    compare.click(_comparing(gateways), [key, chosen, prompts, images], compared).then(**judge)
    start.click(_starting(gateways, form), [key, *form.inputs], [started, chosen])
    return RunsTab(live, {"fn": listing(gateways), "inputs": [key, form.job], "outputs": form.job})


def _starting(gateways: Gateways, form: run_form.Form) -> Any:
    async def start(key: str, *values: Any) -> tuple[str, Any]:
        try:
            run = await (await gateways.of(key)).submit_run(form.specification(values))
        except RetoucheError as error:
            return notices.problem(error), gr.skip()
        except ValidationError as error:
            return notices.invalid(error), gr.skip()
        told = f"{run.id} is {run.state}. Its curves are below."
        if run.state == "finished":
            told = f"This very run was trained before: {run.id}. For another one, change the seed."
        return notices.good(told), gr.Dropdown([(run_view.label(run), run.id)], value=run.id)

    return start


def _watching(gateways: Gateways) -> Any:
    async def watch(key: str, chosen: str | None) -> tuple[Any, ...]:
        try:
            client = await gateways.of(key)
            runs = await newest(client.runs())
            run = next((run for run in runs if run.id == chosen), None)
            if run is None and chosen:
                run = await client.run(chosen)
            run = run or (runs[0] if runs else None)
            metrics = await client.run_metrics(run.id) if run else []
        except RetoucheError as error:
            return gr.skip(), notices.problem(error), *[gr.skip()] * 3
        if run is None:
            told = "There is no run yet. Train on a finished job: above, or with `retouche train JOB`."
            return gr.Dropdown([], value=None), notices.empty(told), "", *possible("finished")
        choices = [(run_view.label(one), one.id) for one in runs]
        shown = run_view.summary(run), run_view.curves(metrics)
        return gr.Dropdown(choices, value=run.id), *shown, *possible(run.state)

    return watch


def _judging(gateways: Gateways) -> Any:
    async def judge(key: str, chosen: str | None) -> tuple[str, str]:
        if not chosen:
            return "", ""
        try:
            client = await gateways.of(key)
            found = await client.evaluations(chosen)
            if not found:
                told = "Nobody has compared it with its base yet. Do it below, or with: retouche evaluate"
                return notices.empty(told), ""
            shown = found[0].most_changed(_COMPARISONS)
            references = sorted({image for one in shown for image in (one.base, one.tuned)})
            pictures = await asyncio.gather(*(client.image(reference) for reference in references))
        except RetoucheError as error:
            return notices.problem(error), ""
        known = dict(zip(references, pictures, strict=True))
        return run_view.evaluation_table(found[0]), run_view.side_by_side(shown, known)

    return judge


def _comparing(gateways: Gateways) -> Any:
    async def compare(
        key: str, chosen: str | None, prompts: str, images: int, progress: gr.Progress = _PROGRESS
    ) -> str:
        lines = [line.strip() for line in prompts.splitlines() if line.strip()]
        try:
            if not chosen:
                raise BadPrompts("Choose a run first.")
            if not 0 < len(lines) <= _MOST_PROMPTS:
                raise BadPrompts(
                    f"Write 1 to {_MOST_PROMPTS} prompts, one a line; there are {len(lines)}. "
                    "For more there is: retouche evaluate"
                )
            client = await gateways.of(key)
            told = lambda done, of: progress((done, of), desc="drawing both")  # noqa: E731
            found = await evaluate(client, chosen, lines, images_per_prompt=images, told=told)
            await client.keep_evaluation(found)
        except RetoucheError as error:
            return notices.problem(error)
        except ValidationError as error:
            return notices.invalid(error)
        return notices.good("Compared. The table above is of the evaluation with most prompts.")

    return compare
