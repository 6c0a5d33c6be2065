"""POST /v1/instruct."""

import asyncio

from fastapi import APIRouter, FastAPI, Request, Response

from retouche.contract.services import Readiness
from retouche.contract.stages import InstructRequest, InstructResponse
from retouche.identity import identify
from retouche.profile import load_profile, located
from retouche.store import open_store
from services.instruction.messages import SYSTEM, ask
from services.instruction.settings import Settings
from services.manner import manner
from services.vlm.backend import open_backend
from services.vlm.chat import messages_revision
from serving.app import Loaded, create_service, require_ready, while_connected
from serving.images import referenced
from serving.memo import answered

router = APIRouter(tags=["instruction"])


def create_app(settings: Settings | None = None) -> FastAPI:
    """The instruction service."""
    return create_service("Retouche instruction", router, _load, settings or Settings())


async def _load(settings: Settings, app: FastAPI) -> Loaded:
    profile = load_profile(settings.profile).instruction
    backend = await open_backend(profile, settings, app.state.metrics)
    app.state.store, app.state.instructor = await open_store(settings.store), backend
    app.state.manner = manner(profile, "backend", "max_answer_tokens")
    identity = await asyncio.to_thread(identify, located(profile.model), profile.revision)
    return Readiness(models={"instruction": identity}), backend.close


@router.post("/v1/instruct", response_model=InstructResponse)
async def instruct(payload: InstructRequest, request: Request) -> Response:
    """A critique as editing instructions, the most important first; none where it found nothing."""
    readiness, state = require_ready(request), request.app.state
    image = await referenced(state.store, payload.image)
    complete = payload.model_copy(update={"image": image})
    models = {**readiness.models, "manner": state.manner, "messages": messages_revision(SYSTEM)}

    async def make() -> InstructResponse:
        question = ask(payload.prompt, payload.critique)
        answer = await state.instructor.answer(question, await state.store.get_image(image))
        edits = list(answer.instructions[: payload.max_instructions])
        return InstructResponse(instructions=edits, model=readiness.models["instruction"])

    return await while_connected(request, answered(request, "instruction", models, complete, make))
