"""Buttons that do something to the job or run that is chosen."""

from collections.abc import Awaitable, Callable

import gradio as gr

from retouche.client import AsyncRetouche
from retouche.contract.jobs import Job
from retouche.contract.runs import Run
from retouche.errors import RetoucheError
from studio import notices
from studio.gateways import Gateways

_UNDER_WAY = ("queued", "running")

Act = Callable[[AsyncRetouche, str], Awaitable[Job | Run]]


def acting(gateways: Gateways, act: Act) -> Callable[[str, str | None], Awaitable[str]]:
    """The handler of such a button; its answer says what became of the job or run."""

    async def handler(key: str, chosen: str | None) -> str:
        if not chosen:
            return notices.empty("There is nothing chosen in the list above.")
        try:
            now = await act(await gateways.of(key), chosen)
        except RetoucheError as error:
            return notices.problem(error)
        return notices.good(f"{now.id} is {now.state}.")

    return handler


def possible(state: str) -> tuple[gr.Button, gr.Button]:
    """The buttons that stop a job or run, which must be under way, and that set it going again, also where it
    is stuck."""
    return gr.Button(interactive=state in _UNDER_WAY), gr.Button(interactive=state != "finished")
