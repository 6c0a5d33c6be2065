"""The jobs: submit one, watch them all, cancel and retry."""

import time
from dataclasses import dataclass, field
from typing import Any

import gradio as gr
from pydantic import ValidationError

from retouche.client import AsyncRetouche
from retouche.contract.jobs import Job
from retouche.errors import RetoucheError
from retouche.intake.rows import Skipped
from studio import job_form, job_view, notices
from studio.acting import acting, possible
from studio.gateways import Gateways, newest
from studio.live import Live

_RATE_SECONDS = 10


@dataclass
class Seen:
    """How many images each job had at the looks of the last seconds."""

    looks: list[tuple[float, dict[str, int]]] = field(default_factory=list)

    def rates(self, jobs: list[Job]) -> dict[str, float]:
        """Images a second of the jobs that run."""
        now = time.monotonic()
        self.looks = [look for look in self.looks if now - look[0] < _RATE_SECONDS]
        self.looks.append((now, {job.id: job.report.images for job in jobs}))
        then, before = self.looks[0]
        if now == then:
            return {}
        return {
            job.id: max(0, job.report.images - before[job.id]) / (now - then)
            for job in jobs
            if job.state == "running" and job.id in before
        }


@dataclass(frozen=True)
class JobsTab:
    live: Live
    chosen: gr.Dropdown
    show_pairs: gr.Button
    name_deployed: dict[str, Any]  # what an event runs that fills in what is deployed


def build(gateways: Gateways, key: gr.Textbox) -> JobsTab:
    """The tab's content."""
    with gr.Row(equal_height=False):
        with gr.Column(scale=2, min_width=320):
            gr.HTML("<h2>Submit a job</h2>")
            form = job_form.build()
            submit = gr.Button("Submit", variant="primary", elem_id="submit")
            told = gr.HTML(elem_id="told")
        with gr.Column(scale=3, min_width=320):
            gr.HTML("<h2>Jobs</h2>")
            table = gr.HTML("<div class='notice empty' role='status'><div>Asking for the jobs…</div></div>")
            chosen = gr.Dropdown([], label="One of them", elem_id="job", allow_custom_value=True)
            with gr.Row():
                show_pairs = gr.Button("See its pairs", elem_id="see-pairs")
                cancel = gr.Button("Cancel it", variant="stop")
                retry = gr.Button("Run it again", elem_id="retry")
            outcome = gr.HTML()
            detail = gr.HTML()
    seen, timer = gr.State(Seen()), gr.Timer(2, active=False)
    shown = [table, chosen, detail, cancel, retry, seen]
    look: dict[str, Any] = {"fn": _looking(gateways), "inputs": [key, chosen, seen], "outputs": shown}
    live = Live(timer, key, look)
    chosen.input(**live.look)
    submit.click(_submitting(gateways, form), [key, *form.inputs], [told, chosen]).then(**live.look)
    cancel.click(acting(gateways, AsyncRetouche.cancel), [key, chosen], outcome).then(**live.look)
    retry.click(acting(gateways, AsyncRetouche.retry), [key, chosen], outcome).then(**live.look)
    name, named = form.naming(gateways)
    naming: dict[str, Any] = {"fn": name, "inputs": [key, form.profile, form.rewards], "outputs": named}
    key.change(**naming, show_progress="hidden", queue=False)
    return JobsTab(live, chosen, show_pairs, naming)


def _looking(gateways: Gateways) -> Any:
    async def look(key: str, chosen: str | None, seen: Seen) -> tuple[Any, ...]:
        try:
            client = await gateways.of(key)
            jobs = await newest(client.jobs())
            one = next((job for job in jobs if job.id == chosen), None)
            if one is None and chosen:
                one = await client.job(chosen)
        except RetoucheError as error:
            return (notices.problem(error), *[gr.skip()] * 4, seen)
        choices = [(job_view.label(job), job.id) for job in jobs]
        value = chosen or (jobs[0].id if jobs else None)
        one = one or (jobs[0] if jobs else None)
        rates = seen.rates(jobs)
        detail = job_view.detail(one) if one else ""
        buttons = possible(one.state) if one else possible("finished")
        return (job_view.table(jobs, rates), gr.Dropdown(choices, value=value), detail, *buttons, seen)

    return look


def _submitting(gateways: Gateways, form: job_form.Form) -> Any:
    async def submit(key: str, *values: Any) -> tuple[str, Any]:
        skipped = Skipped()
        try:
            client = await gateways.of(key)
            job = await client.submit(await form.specification(client, skipped, list(values)))
        except RetoucheError as error:
            return notices.problem(error), gr.skip()
        except ValidationError as error:
            return notices.invalid(error), gr.skip()
        told = f"{job.id} is {job.state}, with {job.prompts:,} prompts. Watch it in the table."
        if job.state == "finished":
            told = (
                f"This very job was run before: {job.id}. Its pairs are there; for others, change the seed."
            )
        if skipped.count:
            told += f" {skipped.count:,} rows were left out: {'; '.join(skipped.problems)}."
        return notices.good(told), gr.Dropdown([(job_view.label(job), job.id)], value=job.id)

    return submit
