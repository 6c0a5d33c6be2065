"""The pipeline: generate, criticise, instruct, edit, score, pair.

An item is one image of one prompt, generated or already there. Items run side by side, each at its own stage,
so that every service has work; how many calls are under way to a service is bounded for that service alone.
What goes wrong with one item is a counted reason and the rest goes on; a service that stays away fails the
shard.
"""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

from pydantic import BaseModel

from retouche.about import about, current, trace_of
from retouche.client.stages import Answer, StageClient
from retouche.contract.jobs import (
    CurationSpec,
    DropReason,
    EditTrace,
    ImageTrace,
    JobReport,
    PreferencePair,
    StageProgress,
    StartingImage,
)
from retouche.contract.payload import ModelIdentity, RunId
from retouche.contract.stages import (
    CritiqueRequest,
    EditInstruction,
    EditRequest,
    GenerateRequest,
    InstructRequest,
    RewardRequest,
    Score,
)
from retouche.errors import BadImage, RetoucheError
from retouche.identity import worn
from retouche.meters import tell
from retouche.together import together
from retouche.tracing import span
from worker.deployed import check_model
from worker.limits import Limit
from worker.pairs import Makers, pairs_of
from worker.seeds import editing_seed, generation_seed

ResponseT = TypeVar("ResponseT", bound=BaseModel)

_FAILED: dict[str, DropReason] = {
    "generation": "generation_failed",
    "critique": "critique_failed",
    "instruction": "instruction_failed",
    "editing": "editing_failed",
    "reward": "reward_failed",
}

_log = logging.getLogger("retouche.worker")

FIRST_ITEMS = 32  # at work from the start: few, so that the last stage soon has something to do
MOST_ITEMS = 128  # at work at a time; enough that no service waits for another, few enough to keep in memory


@dataclass(frozen=True)
class ShardPrompts:
    """The prompts of one shard: where each stands in the prompt set, and how often it stood there before.

    `images`: the existing image of each prompt, or none at all: they are generated.
    """

    prompts: Sequence[str]
    first_index: int
    repeats: Sequence[int]
    images: Sequence[StartingImage] = ()


@dataclass
class Curation:
    """What one shard's items share: whom to call, how much at once, and the report that grows."""

    spec: CurationSpec
    client: StageClient
    limits: dict[str, Limit]
    margins: dict[str, float]
    report: JobReport = field(default_factory=JobReport)

    async def call(self, stage: str, request: Callable[[], Awaitable[Answer[ResponseT]]]) -> ResponseT:
        """One call of a stage, within its limit, counted; Dropped where it fails for this item alone."""
        progress, began = self.report.stages.setdefault(stage, StageProgress()), time.monotonic()
        try:
            with span(stage):
                answer = await self.limits[stage](request)
        except RetoucheError as error:
            progress.failed += 1
            tell("stage_seconds", time.monotonic() - began, stage, "failed")
            raise Dropped(_FAILED[stage], error) from error
        progress.done += 1
        progress.remembered += answer.remembered
        tell("stage_seconds", time.monotonic() - began, stage, "remembered" if answer.remembered else "made")
        return answer.response

    def check(self, stage: str, answered: ModelIdentity, adapter: RunId | None = None) -> None:
        """Conflict if the job names another model than has answered: it was replaced since the start."""
        wanted: ModelIdentity | None = getattr(self.spec.models, stage, None)
        if wanted is not None:
            check_model(stage, worn(wanted, adapter), answered)


class Dropped(Exception):
    """An item, or an edit, ends here for a counted reason."""

    def __init__(self, reason: DropReason, error: RetoucheError | None = None) -> None:
        super().__init__(reason)
        self.reason = reason
        self.error = error.detail if error else None


async def curate(curation: Curation, shard: ShardPrompts) -> tuple[list[PreferencePair], list[ImageTrace]]:
    """Every image of every prompt of the shard; pairs and traces in the order of prompts and images.

    Raises:
        ServiceAway: a service stayed away longer than the patience.
        Conflict: another model answered than the specification names.
    """
    room, spare = asyncio.Semaphore(FIRST_ITEMS), iter(range(MOST_ITEMS - FIRST_ITEMS))

    async def item(offset: int, image_index: int) -> tuple[list[PreferencePair], ImageTrace]:
        place = shard.first_index + offset, image_index
        known = about(item=f"{place[0]}.{image_index}", trace=trace_of(current().get("job", ""), *place))
        async with room:
            with known, span("item"):
                result = await _item(curation, shard, offset, image_index)
                if (failure := result[1].error) is not None:
                    _log.warning("%s: %s", result[1].dropped, failure)
        if next(spare, None) is not None:  # each that ends makes room for two, until there is all of it
            room.release()
        return result

    curation.report.prompts = len(shard.prompts)
    places = [
        (offset, image_index)
        for offset in range(len(shard.prompts))
        for image_index in range(1 if shard.images else curation.spec.images_per_prompt)
    ]
    results = await together(item(*place) for place in places)
    return [pair for pairs, _ in results for pair in pairs], [trace for _, trace in results]


async def _item(
    curation: Curation, shard: ShardPrompts, offset: int, image_index: int
) -> tuple[list[PreferencePair], ImageTrace]:
    """One image from its prompt to its pairs."""
    prompt, report = shard.prompts[offset], curation.report
    seed = generation_seed(curation.spec.seed, prompt, image_index, shard.repeats[offset])
    trace = ImageTrace(
        prompt=prompt, prompt_index=shard.first_index + offset, image_index=image_index, seed=seed
    )
    makers = Makers()
    try:
        if shard.images:
            _take(curation, trace, shard.images[offset])
        else:
            await _generate(curation, trace, makers)
        if (style := curation.spec.style) is not None:
            trace.instructions = [EditInstruction(action="restyle", target="the image", text=style)]
        else:
            await _criticise(curation, trace, makers)
            await _instruct(curation, trace, makers)
        await _edit_all(curation, trace, makers)
        await _score(curation, trace, makers)
    except Dropped as dropped:
        trace.dropped, trace.error = dropped.reason, dropped.error
        _count(report, dropped.reason)
        return [], trace
    pairs = pairs_of(curation.spec, curation.margins, trace, makers)
    for edit in trace.edits:
        if edit.outcome != "pair":
            _count(report, edit.outcome)
    report.pairs += len(pairs)
    return pairs, trace


def _take(curation: Curation, trace: ImageTrace, existing: StartingImage) -> None:
    """Start from an image that is there."""
    trace.origin, trace.image = existing.origin, existing.image
    if existing.problem is not None:
        raise Dropped("unreadable_image", BadImage(f"{existing.origin}: {existing.problem}"))
    curation.report.images += 1


async def _generate(curation: Curation, trace: ImageTrace, makers: Makers) -> None:
    overrides = curation.spec.generation.model_dump()
    request = GenerateRequest(prompt=trace.prompt, seed=trace.seed, **overrides)
    response = await curation.call("generation", lambda: curation.client.generate(request))
    curation.check("generation", response.model, curation.spec.generation.adapter)
    trace.image, makers.stages["generation"] = response.image, response.model
    curation.report.images += 1


async def _criticise(curation: Curation, trace: ImageTrace, makers: Makers) -> None:
    request = CritiqueRequest(prompt=trace.prompt, image=_image(trace))
    response = await curation.call("critique", lambda: curation.client.critique(request))
    curation.check("critique", response.model)
    trace.critique, makers.stages["critique"] = response.critique, response.model
    if not response.critique.findings:
        raise Dropped("no_findings")
    curation.report.images_with_findings += 1


async def _instruct(curation: Curation, trace: ImageTrace, makers: Makers) -> None:
    assert trace.critique is not None
    request = InstructRequest(
        prompt=trace.prompt,
        image=_image(trace),
        critique=trace.critique,
        max_instructions=curation.spec.instructions_per_image,
    )
    response = await curation.call("instruction", lambda: curation.client.instruct(request))
    curation.check("instruction", response.model)
    trace.instructions, makers.stages["instruction"] = _distinct(response.instructions), response.model
    if not response.instructions:
        raise Dropped("no_instructions")


def _distinct(instructions: Sequence[EditInstruction]) -> list[EditInstruction]:
    """The first of each text: models repeat themselves, and the same words from one seed are one edit."""
    first: dict[str, EditInstruction] = {}
    for instruction in instructions:
        first.setdefault(instruction.text, instruction)
    return list(first.values())


async def _edit_all(curation: Curation, trace: ImageTrace, makers: Makers) -> None:
    """Every edit of every instruction, side by side."""
    wanted = [
        (instruction, editing_seed(trace.seed, instruction.text, index))
        for instruction in trace.instructions
        for index in range(curation.spec.edits_per_instruction)
    ]
    made = await together(_edit(curation, trace, instruction, seed) for instruction, seed in wanted)
    trace.edits, makers.editors = [edit for edit, _ in made], [editor for _, editor in made]


async def _edit(
    curation: Curation, trace: ImageTrace, instruction: EditInstruction, seed: int
) -> tuple[EditTrace, ModelIdentity | None]:
    """One edit, and who made it."""
    request = EditRequest(
        prompt=trace.prompt,
        image=_image(trace),
        instruction=instruction,
        seed=seed,
        **curation.spec.editing.model_dump(),
    )
    edit = EditTrace(instruction=instruction, seed=seed, outcome="editing_failed")
    try:
        response = await curation.call("editing", lambda: curation.client.edit(request))
    except Dropped as dropped:
        edit.error = dropped.error
        return edit, None
    curation.check("editing", response.model, curation.spec.editing.adapter)
    curation.report.edits += 1
    edit.image = response.image
    edit.outcome = "unchanged" if response.image == trace.image else "pair"
    return edit, response.model


async def _score(curation: Curation, trace: ImageTrace, makers: Makers) -> None:
    """Score the original and its edits in one request, as they are compared with one another."""
    edits = [edit for edit in trace.edits if edit.outcome == "pair"]
    if not edits:
        return
    images = [_image(trace), *(edit.image for edit in edits if edit.image)]
    request = RewardRequest(prompt=trace.prompt, images=images, rewards=sorted(curation.margins))
    try:
        response = await curation.call("reward", lambda: curation.client.reward(request))
    except Dropped as dropped:
        for edit in edits:
            edit.outcome, edit.error = dropped.reason, dropped.error
        return
    if curation.spec.models is not None:
        for name, model in response.models.items():
            check_model(f"reward {name}", curation.spec.models.rewards.get(name, model), model)
    makers.rewards = response.models
    trace.scores = _raw(response.scores[0])
    for edit, scores in zip(edits, response.scores[1:], strict=True):
        edit.scores = _raw(scores)


def _image(trace: ImageTrace) -> str:
    assert trace.image is not None
    return trace.image


def _raw(scores: dict[str, Score]) -> dict[str, float]:
    return {name: score.raw for name, score in sorted(scores.items())}


def _count(report: JobReport, reason: DropReason) -> None:
    report.dropped[reason] = report.dropped.get(reason, 0) + 1
