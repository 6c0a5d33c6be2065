"""The five services without models: fixed latency and capacity, answers derived from the request alone.

`python -m bench.stub_services --store FOLDER --port PORT --stages '{"editing": [0.2, 8]}'`. A prompt that
contains a DropReason is dropped for that reason. An image's worth is its redness, which every edit raises.
"""

import argparse
import asyncio
import hashlib
import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field

import uvicorn
from fastapi import APIRouter, FastAPI, Request, Response
from PIL import Image

from retouche.contract.payload import ImageRef, ModelIdentity
from retouche.contract.services import Readiness
from retouche.contract.stages import (
    STAGES,
    Critique,
    CritiqueRequest,
    CritiqueResponse,
    EditInstruction,
    EditRequest,
    EditResponse,
    Finding,
    GenerateRequest,
    GenerateResponse,
    InstructRequest,
    InstructResponse,
    RewardRequest,
    RewardResponse,
    Score,
)
from retouche.errors import ModelFailure, Overloaded
from retouche.store import ObjectStore
from serving import app as serving
from serving.images import load_image, store_image
from serving.memo import answered

MODELS = {name: ModelIdentity(id=f"stub-{name}", revision="1") for name in (*STAGES, "redness", "contrary")}
MARGINS = {"redness": 0.001, "contrary": 0.001}
_ORIGINAL_RED = 100
_SIDE = 16  # pixels

router = APIRouter()


@dataclass(frozen=True)
class Stage:
    """Works on `capacity` calls at a time, each for `latency_seconds`; `waiting` more may wait, then 429."""

    latency_seconds: float = 0.0
    capacity: int = 64
    waiting: int = 256


@dataclass
class Stub:
    """What the routes share; `calls` counts the calls worked on, `refused` those answered 429.

    `models`: who answers; not whom /readyz names, once they have been replaced.
    """

    stages: dict[str, Stage]
    models: dict[str, ModelIdentity] = field(default_factory=MODELS.copy)
    calls: Counter[str] = field(default_factory=Counter)
    refused: Counter[str] = field(default_factory=Counter)

    def __post_init__(self) -> None:
        self._inside: Counter[str] = Counter()
        self._free = {stage: asyncio.Semaphore(self.stages[stage].capacity) for stage in STAGES}

    async def work(self, stage: str, prompt: str) -> None:
        """Take the time that a call of `stage` takes."""
        made = self.stages[stage]
        if self._inside[stage] >= made.capacity + made.waiting:
            self.refused[stage] += 1
            raise Overloaded(f"{stage} has no room", retry_after_seconds=made.latency_seconds or None)
        self._inside[stage] += 1
        try:
            async with self._free[stage]:
                self.calls[stage] += 1
                await asyncio.sleep(made.latency_seconds)
        finally:
            self._inside[stage] -= 1
        if f"{stage}_failed" in prompt:
            raise ModelFailure(f"{stage} fails on this prompt, as told")


def create_app(
    store: ObjectStore,
    stages: Mapping[str, Stage] | None = None,
    margins: Mapping[str, float] = MARGINS,
) -> FastAPI:
    """One application for all five stages; those not in `stages` answer at once."""
    stub = Stub({stage: (stages or {}).get(stage, Stage()) for stage in STAGES})

    async def load(_: FastAPI) -> serving.Loaded:
        return Readiness(models=MODELS, margins=dict(margins)), _nothing

    app = serving.create_app("Stub services", router, load)
    app.state.store, app.state.stub = store, stub
    return app


@router.post("/v1/generate", response_model=GenerateResponse)
async def generate(payload: GenerateRequest, request: Request) -> Response:
    state, models = request.app.state, request.app.state.stub.models

    async def make() -> GenerateResponse:
        await state.stub.work("generation", payload.prompt)
        image = await _picture(state.store, _ORIGINAL_RED, payload.prompt, payload.seed)
        return GenerateResponse(image=image, model=models["generation"])

    return await answered(request, "generation", models, payload, make)


@router.post("/v1/critique", response_model=CritiqueResponse)
async def critique(payload: CritiqueRequest, request: Request) -> Response:
    stub = request.app.state.stub
    models = stub.models

    async def make() -> CritiqueResponse:
        await stub.work("critique", payload.prompt)
        finding = Finding(aspect="color", subject="the square", problem="is not red enough")
        findings = () if "no_findings" in payload.prompt else (finding,)
        found = Critique(description="a square", findings=findings)
        return CritiqueResponse(critique=found, model=models["critique"])

    return await answered(request, "critique", models, payload, make)


@router.post("/v1/instruct", response_model=InstructResponse)
async def instruct(payload: InstructRequest, request: Request) -> Response:
    stub = request.app.state.stub
    models = stub.models

    async def make() -> InstructResponse:
        await stub.work("instruction", payload.prompt)
        count = 0 if "no_instructions" in payload.prompt else payload.max_instructions
        amounts = [1 if "repeated" in payload.prompt else index + 1 for index in range(count)]
        instructions = [
            EditInstruction(
                action="recolor", target=f"the square, {place}", text=f"make it redder by {amount}"
            )
            for place, amount in enumerate(amounts)
        ]
        return InstructResponse(instructions=instructions, model=models["instruction"])

    return await answered(request, "instruction", models, payload, make)


@router.post("/v1/edit", response_model=EditResponse)
async def edit(payload: EditRequest, request: Request) -> Response:
    state, models = request.app.state, request.app.state.stub.models

    async def make() -> EditResponse:
        await state.stub.work("editing", payload.prompt)
        if "unchanged" in payload.prompt:
            return EditResponse(image=payload.image, model=models["editing"])
        redder = 10 * int(payload.instruction.text.rsplit(" ", 1)[1])
        sign = 0 if "tie" in payload.prompt else -1 if "edit_worse" in payload.prompt else 1
        image = await _picture(state.store, _ORIGINAL_RED + sign * redder, payload.image, payload.seed)
        return EditResponse(image=image, model=models["editing"])

    return await answered(request, "editing", models, payload, make)


@router.post("/v1/reward", response_model=RewardResponse)
async def reward(payload: RewardRequest, request: Request) -> Response:
    state, names = request.app.state, payload.rewards or sorted(MARGINS)
    models = state.stub.models

    async def make() -> RewardResponse:
        await state.stub.work("reward", payload.prompt)
        contrary = -1 if "disagreement" in payload.prompt else 1
        scores = []
        for image in payload.images:
            red = (await load_image(state.store, image)).tobytes()[0] / 255
            by_name = {"redness": red, "contrary": contrary * red}
            scores.append({name: Score(raw=by_name[name], published=by_name[name]) for name in names})
        return RewardResponse(scores=scores, models={name: models[name] for name in names})

    return await answered(request, "reward", models, payload, make)


async def _picture(store: ObjectStore, red: int, *content: object) -> ImageRef:
    """A plain picture of that redness, its green and blue derived from `content`."""
    green, blue = hashlib.sha256(repr(content).encode()).digest()[:2]
    return await store_image(store, Image.new("RGB", (_SIDE, _SIDE), (red, green, blue)))


async def _nothing() -> None:
    return None


def main() -> None:
    """Serve until told to stop."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--store", required=True)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--stages", type=json.loads, default={}, help="stage: [latency, capacity, waiting]")
    arguments = parser.parse_args()
    stages = {stage: Stage(*values) for stage, values in arguments.stages.items()}
    app = create_app(ObjectStore(arguments.store), stages)
    uvicorn.run(app, host="127.0.0.1", port=arguments.port, log_level="warning")


if __name__ == "__main__":
    main()
