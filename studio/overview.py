"""The overview: the pipeline as a picture, every two seconds."""

from typing import Any

import gradio as gr

from retouche.contract.overview import Overview
from retouche.errors import RetoucheError
from studio import notices
from studio.gateways import Gateways
from studio.live import Live
from studio.pipeline import picture

_SNAPSHOTS = 10  # rates are over as many looks


def build(gateways: Gateways, key: gr.Textbox) -> Live:
    """The tab's content, and what keeps it current."""
    shown = gr.HTML("<div class='notice empty' role='status'><div>Asking the services…</div></div>")
    snapshots = gr.State([])
    timer = gr.Timer(2)

    async def look(key: str, before: list[Overview]) -> tuple[Any, list[Overview]]:
        try:
            now = await (await gateways.of(key)).overview()
        except RetoucheError as error:
            return notices.problem(error), []
        snapshots = [*before[1 - _SNAPSHOTS :], now]
        return picture(snapshots), snapshots

    return Live(timer, key, {"fn": look, "inputs": [key, snapshots], "outputs": [shown, snapshots]})
