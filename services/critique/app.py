"""POST /v1/critique."""

import asyncio

from fastapi import APIRouter, FastAPI, Request, Response

from retouche.contract.services import Readiness
from retouche.contract.stages import CritiqueRequest, CritiqueResponse
from retouche.identity import identify
from retouche.profile import load_profile, located
from retouche.store import open_store
from services.critique.messages import SYSTEM, ask
from services.critique.settings import Settings
from services.manner import manner
from services.vlm.backend import open_backend
from services.vlm.chat import messages_revision
from serving.app import Loaded, create_service, require_ready, while_connected
from serving.images import referenced
from serving.memo import answered

router = APIRouter(tags=["critique"])


def create_app(settings: Settings | None = None) -> FastAPI:
    """The critique service."""
    return create_service("Retouche critique", router, _load, settings or Settings())


async def _load(settings: Settings, app: FastAPI) -> Loaded:
    profile = load_profile(settings.profile).critique
    backend = await open_backend(profile, settings, app.state.metrics)
    app.state.store, app.state.critic = await open_store(settings.store), backend
    app.state.manner = manner(profile, "backend", "max_answer_tokens")
    identity = await asyncio.to_thread(identify, located(profile.model), profile.revision)
    return Readiness(models={"critique": identity}), backend.close


@router.post("/v1/critique", response_model=CritiqueResponse)
async def critique(payload: CritiqueRequest, request: Request) -> Response:
    """What a picture shows, and where it departs from its prompt."""
    readiness, state = require_ready(request), request.app.state
    image = await referenced(state.store, payload.image)
    complete = payload.model_copy(update={"image": image})
    models = {**readiness.models, "manner": state.manner, "messages": messages_revision(SYSTEM)}

    async def make() -> CritiqueResponse:
        verdict = await state.critic.answer(ask(payload.prompt), await state.store.get_image(image))
        return CritiqueResponse(critique=verdict, model=readiness.models["critique"])

    return await while_connected(request, answered(request, "critique", models, complete, make))
