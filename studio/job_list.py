"""The list of jobs to choose from, where one with pairs is wanted."""

from typing import Any

import gradio as gr

from retouche.errors import RetoucheError
from studio import job_view
from studio.gateways import Gateways, newest


def listing(gateways: Gateways) -> Any:
    """What fills such a list in: takes the visitor's key and the job that is chosen, which stays."""

    async def jobs(key: str, job: str | None) -> Any:
        try:
            found = await newest((await gateways.of(key)).jobs())
        except RetoucheError:
            return gr.skip()
        choices = [(job_view.label(one), one.id) for one in found]
        known = [identifier for _, identifier in choices]
        first = next((one.id for one in found if one.shards_finished and one.report.pairs), None)
        return gr.Dropdown(choices, value=job if job in known else first)

    return jobs
