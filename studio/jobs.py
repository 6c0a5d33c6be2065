"""The jobs: submit one, watch them all, cancel and retry."""

import time
from dataclasses import dataclass, field
from typing import Any

import gradio as gr
from pydantic import ValidationError

from retouche.client import AsyncRetouche
from retouche.contract.jobs import Job
from retouche.errors import RetoucheError
from studio import job_form, job_view, notices
from studio.acting import acting
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
    shown = [table, chosen, detail, seen]
    look: dict[str, Any] = {"fn": _looking(gateways), "inputs": [key, chosen, seen], "outputs": shown}
    live = Live(timer, key, look)
    chosen.input(**live.look)
    submit.click(_submitting(gateways, form), [key, *form.inputs], [told, chosen]).then(**live.look)
    cancel.click(acting(gateways, AsyncRetouche.cancel), [key, chosen], outcome).then(**live.look)
    retry.click(acting(gateways, AsyncRetouche.retry), [key, chosen], outcome).then(**live.look)
    gr.on(None, _naming_rewards(gateways), key, form.settings["rewards"], show_progress="hidden")
    return JobsTab(live, chosen, show_pairs)


def _looking(gateways: Gateways) -> Any:
    async def look(key: str, chosen: str | None, seen: Seen) -> tuple[Any, Any, Any, Seen]:
        try:
            client = await gateways.of(key)
            jobs = await newest(client.jobs())
            one = next((job for job in jobs if job.id == chosen), None)
            if one is None and chosen:
                one = await client.job(chosen)
        except RetoucheError as error:
            return notices.problem(error), gr.skip(), gr.skip(), seen
        choices = [(job_view.label(job), job.id) for job in jobs]
        value = chosen or (jobs[0].id if jobs else None)
        one = one or (jobs[0] if jobs else None)
        rates = seen.rates(jobs)
        detail = job_view.detail(one) if one else ""
        return job_view.table(jobs, rates), gr.Dropdown(choices, value=value), detail, seen

    return look


def _submitting(gateways: Gateways, form: job_form.Form) -> Any:
    async def submit(key: str, *values: Any) -> tuple[str, Any]:
        try:
            client = await gateways.of(key)
            job = await client.submit(await form.specification(client, list(values)))
        except RetoucheError as error:
            return notices.problem(error), gr.skip()
        except ValidationError as error:
            return notices.invalid(error), gr.skip()
        told = f"{job.id} is {job.state}, with {job.prompts:,} prompts. Watch it in the table."
        if job.state == "finished":
            told = (
                f"This very job was run before: {job.id}. Its pairs are there; for others, change the seed."
            )
        return notices.good(told), gr.Dropdown([(job_view.label(job), job.id)], value=job.id)

    return submit


def _naming_rewards(gateways: Gateways) -> Any:
    async def name(key: str) -> Any:
        try:
            reward = (await (await gateways.of(key)).services())["reward"]
        except RetoucheError:
            return gr.skip()
        return gr.CheckboxGroup(list(reward.readiness.models) if reward.readiness else [])

    return name
