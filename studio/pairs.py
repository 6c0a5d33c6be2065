"""The pairs of a job: find them, look at them closely, decide about them, take them away."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from random import random
from typing import Any

import gradio as gr
from pydantic import ValidationError

from retouche.client import AsyncRetouche
from retouche.contract.reviews import Decision
from retouche.errors import RetoucheError
from retouche.export.unfinished import refuse_unfinished
from studio import notices, pair_questions, pair_view
from studio.browsing import Browsing, decided, search, turned, undone
from studio.gateways import Gateways
from studio.job_list import listing
from studio.pictures import Thumbnails, picture

Move = Callable[[AsyncRetouche, Browsing, str], Awaitable[Browsing]]

_KEYS = (
    "Keys: <kbd>a</kbd> accept, <kbd>r</kbd> reject, <kbd>f</kbd> flip, <kbd>u</kbd> undo, "
    "<kbd>j</kbd> next, <kbd>k</kbd> back, <kbd>1</kbd> only the original, <kbd>2</kbd> half of each, "
    "<kbd>3</kbd> only the edit."
)
_BUTTONS = {
    "accept": "✓ Accept (a)",
    "reject": "✕ Reject (r)",
    "flip": "⇄ Flip (f)",
    "undo": "↶ Undo (u)",
    "back": "← Back (k)",
    "next": "Next (j) →",
}
_SIDES = {"first": "Original (1)", "half": "Half (2)", "second": "Edit (3)"}
_REVIEWED = [
    ("as curated, whatever was decided", "all"),
    ("without the rejected ones", "not_rejected"),
    ("only those accepted or flipped", "only"),
]
_SOON_SECONDS = 0.4
_READING = (
    "Reading the pairs of this job, which is done once: a few seconds where there are a hundred thousand."
)


@dataclass(frozen=True)
class _Shown:
    """What shows the open pair, in the order in which `_Browser.show` returns it."""

    at: gr.State
    gallery: gr.Gallery
    slider: gr.ImageSlider
    where: gr.HTML
    facts: gr.HTML
    told: gr.HTML

    @property
    def outputs(self) -> list[Any]:
        return [self.at, self.gallery, self.slider, self.where, self.facts, self.told]


@dataclass(frozen=True)
class PairsTab:
    job: gr.Dropdown
    open_job: dict[str, Any]  # what an event runs that shows the chosen job's pairs
    list_jobs: dict[str, Any]


class _Browser:
    """What the buttons and keys do."""

    def __init__(self, gateways: Gateways, exports: Path) -> None:
        self.gateways = gateways
        self.exports = exports
        self.thumbnails = Thumbnails()

    async def find(self, key: str, job: str | None, *asked: Any) -> AsyncIterator[tuple[Any, ...]]:
        """The first page of what is asked for; where that takes long, it is said first."""
        if not job:
            yield (None, [], None, "", notices.empty("Choose a job, and its pairs are here."), gr.skip())
            return
        try:
            client = await self.gateways.of(key)
            searching = asyncio.ensure_future(search(client, job, pair_questions.query(*asked)))
            if not (await asyncio.wait({searching}, timeout=_SOON_SECONDS))[0]:
                yield _failed(notices.empty(_READING))
            yield await self.show(client, None, await searching)
        except RetoucheError as error:
            yield _failed(notices.problem(error))
        except ValidationError as error:
            yield _failed(notices.invalid(error))

    async def select(self, key: str, at: Browsing | None, event: gr.SelectData) -> tuple[Any, ...]:
        place = int(event.index)

        async def move(_client: AsyncRetouche, now: Browsing, _reviewer: str) -> Browsing:
            return Browsing(now.job, now.query, now.page, place)

        return await self.moved(move)(key, at, "")

    def moved(self, move: Move, then_on: bool = False) -> Callable[..., Awaitable[tuple[Any, ...]]]:
        """The handler of a button that goes somewhere, or decides and then goes on."""

        async def handler(key: str, at: Browsing | None, reviewer: str) -> tuple[Any, ...]:
            if at is None:
                return _failed(notices.empty("Choose a job first."))
            try:
                client = await self.gateways.of(key)
                now = await move(client, at, reviewer)
                told = ""
                if then_on and now.open is not None:
                    told = f"Pair {now.number}: {pair_view.caption(now.open)}"
                    now = await turned(client, now, 1)
                return await self.show(client, at, now, notices.good(told) if told else "")
            except RetoucheError as error:
                return _failed(notices.problem(error))

        return handler

    async def show(
        self, client: AsyncRetouche, before: Browsing | None, now: Browsing, told: str = ""
    ) -> tuple[Any, ...]:
        """The values of _Shown.outputs."""
        if now.open is None:
            words = notices.empty(
                "No pair is like that. Ask for less, or choose another job. The pairs of a running job are "
                "here once its first 64 prompts are through."
            )
            return (now, [], None, pair_view.counts(now.page, 0), words, told)
        gallery = gr.Gallery(selected_index=now.place)
        if before is None or before.page != now.page:
            pairs = [found.pair for found in now.page.pairs]
            shown = await self.thumbnails.of(client, pairs)
            captions = [pair_view.caption(found) for found in now.page.pairs]
            gallery = gr.Gallery(list(zip(shown, captions, strict=True)), selected_index=now.place)
        pair = now.open.pair
        original, edited = await picture(client, pair.original), await picture(client, pair.edited)
        where = pair_view.counts(now.page, now.number)
        return (now, gallery, gr.ImageSlider((original, edited), slider_position=_anew(50)), where,
                pair_view.facts(now.open), told)  # fmt: skip

    async def export(self, key: str, job: str | None, reviewed: Any, format: Any) -> tuple[Any, str]:
        if not job:
            return None, notices.empty("Choose a job first.")
        file = self.exports / f"{job}-{reviewed}.{format}"
        try:
            client = await self.gateways.of(key)
            refuse_unfinished(await client.job(job))
            await client.export(job, file, format, reviewed)
        except RetoucheError as error:
            return None, notices.problem(error)
        return str(file), notices.good("The file is below.")


def build(gateways: Gateways, key: gr.Textbox, exports: Path) -> PairsTab:
    """The tab's content; exported files are written to `exports`."""
    browser = _Browser(gateways, exports)
    with gr.Row(equal_height=False):
        job = gr.Dropdown(
            [], label="Job", elem_id="pairs-job", scale=3, min_width=280, allow_custom_value=True
        )
        reviewer = gr.Textbox(
            label="Your name",
            info="Recorded with your decisions.",
            elem_id="reviewer",
            max_length=100,
            scale=1,
            min_width=200,
        )
    asked = pair_questions.build()
    with gr.Row(equal_height=False):
        with gr.Column(scale=3, min_width=320):
            shown, buttons = _open_pair()
        with gr.Column(scale=2, min_width=320):
            shown["facts"] = gr.HTML(notices.empty("Choose a job, and its pairs are here."))
    gr.HTML("<p class='note'>This page: original and edit side by side, the chosen one framed.</p>")
    gallery = gr.Gallery(
        show_label=False,
        columns=6,
        allow_preview=False,
        height="auto",
        object_fit="contain",
        elem_id="gallery",
        buttons=[],
    )
    parts = _Shown(at=gr.State(None), gallery=gallery, **shown)
    _wire(browser, key, reviewer, parts, buttons)
    look = {"fn": browser.find, "inputs": [key, job, *asked], "outputs": parts.outputs}
    gr.on([job.change, *(field.change for field in asked)], **look, trigger_mode="always_last")
    _export(browser, key, job)
    return PairsTab(job, look, {"fn": listing(gateways), "inputs": [key, job], "outputs": job})


def _open_pair() -> tuple[dict[str, Any], dict[str, gr.Button]]:
    """The open pair's images, with the buttons below them."""
    where = gr.HTML()
    slider = gr.ImageSlider(
        label="original | edited",
        type="pil",
        interactive=False,
        elem_id="slider",
        max_height=460,
        format="png",
    )
    with gr.Row(elem_classes="decide"):
        buttons = {
            name: gr.Button(
                label, elem_id=name, min_width=140, variant="primary" if name == "accept" else "secondary"
            )
            for name, label in _BUTTONS.items()
        }
    with gr.Row(elem_classes="sides"):
        for name, label in _SIDES.items():
            buttons[name] = gr.Button(label, elem_id=name, size="sm", min_width=80)
    told = gr.HTML(elem_id="decided")
    gr.HTML(f"<p class='note'>{_KEYS}</p>")
    return {"slider": slider, "where": where, "told": told}, buttons


def _wire(
    browser: _Browser, key: gr.Textbox, reviewer: gr.Textbox, parts: _Shown, buttons: dict[str, gr.Button]
) -> None:
    presses = {
        **{name: browser.moved(_deciding(name), then_on=True) for name in ("accept", "reject", "flip")},
        "undo": browser.moved(undone),
        "next": browser.moved(_turning(1)),
        "back": browser.moved(_turning(-1)),
    }

    async def press(key: str, at: Browsing | None, reviewer: str, event: gr.EventData) -> tuple[Any, ...]:
        assert event.target is not None  # a button's press has one
        return await presses[str(event.target.elem_id)](key, at, reviewer)

    # One event for all: the browser drops a press while another is on its way. It would be about the pair
    # that the other one is deciding, or about the next one before anybody has seen it.
    gr.on(
        [buttons[name].click for name in presses],
        press,
        [key, parts.at, reviewer],
        parts.outputs,
        show_progress="hidden",
        trigger_mode="once",
    )
    parts.gallery.select(browser.select, [key, parts.at], parts.outputs, show_progress="hidden")
    for name, position in zip(_SIDES, (100, 50, 0), strict=True):
        buttons[name].click(
            lambda position=position: gr.ImageSlider(slider_position=_anew(position)), None, parts.slider
        )


def _deciding(decision: Decision) -> Move:
    async def move(client: AsyncRetouche, at: Browsing, reviewer: str) -> Browsing:
        return await decided(client, at, decision, reviewer)

    return move


def _turning(by: int) -> Move:
    async def move(client: AsyncRetouche, at: Browsing, _reviewer: str) -> Browsing:
        return await turned(client, at, by)

    return move


def _export(browser: _Browser, key: gr.Textbox, job: gr.Dropdown) -> None:
    with gr.Accordion("Take them away", open=False, elem_id="take-away"):
        reviewed = gr.Radio(_REVIEWED, value="not_rejected", label="Which pairs")
        format = gr.Radio(["ndjson", "parquet"], value="ndjson", label="As")
        write = gr.Button("Write the file", elem_id="export")
        told = gr.HTML()
        file = gr.File(label="The file", interactive=False, elem_id="exported")
        gr.HTML(
            "<p class='note'>With their images, in the layout of Pick-a-Pic: <code>retouche pairs export JOB "
            "--reviewed not_rejected --output pairs</code>. To train on them: <code>retouche train JOB "
            "--reviewed only</code>.</p>"
        )
    write.click(browser.export, [key, job, reviewed, format], [file, told])


def _anew(position: float) -> float:
    """The position, less a trifle: the browser does not heed one that it was told before."""
    return abs(position - random() / 1000)


def _failed(notice: str) -> tuple[Any, ...]:
    """Everything stays as it is, and the notice is shown."""
    return (gr.skip(), gr.skip(), gr.skip(), gr.skip(), gr.skip(), notice)
