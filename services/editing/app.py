"""POST /v1/edit."""

import asyncio

from fastapi import APIRouter, FastAPI, Request, Response

from retouche.contract.services import Readiness
from retouche.contract.stages import EditRequest, EditResponse
from retouche.identity import worn
from retouche.profile import load_profile
from retouche.store import open_store
from services.adapters import fetch
from services.editing import model
from services.editing.editor import Edit, batch_key
from services.editing.settings import Settings
from services.manner import manner
from serving.app import Loaded, create_service, require_ready, while_connected
from serving.batching import MicroBatcher
from serving.images import load_image, referenced, store_image
from serving.memo import answered

router = APIRouter(tags=["editing"])


def create_app(settings: Settings | None = None) -> FastAPI:
    """The editing service."""
    return create_service("Retouche editing", router, _load, settings or Settings())


async def _load(settings: Settings, app: FastAPI) -> Loaded:
    profile = load_profile(settings.profile).editing
    batcher = MicroBatcher(
        await asyncio.to_thread(model.load, profile),
        key=batch_key,
        max_batch=profile.max_batch,
        max_waiting=settings.max_waiting,
        metrics=app.state.metrics,
    )
    await batcher.start()
    app.state.store, app.state.batcher, app.state.profile = await open_store(settings.store), batcher, profile
    app.state.manner = manner(profile, "editor", "text")
    identity = await asyncio.to_thread(model.identity, profile)
    return Readiness(models={"editing": identity}), batcher.stop


@router.post("/v1/edit", response_model=EditResponse)
async def edit(payload: EditRequest, request: Request) -> Response:
    """One instruction carried out on one image: the same request always gives the same image."""
    readiness, state = require_ready(request), request.app.state
    await fetch(state.store, payload.adapter)
    image = await referenced(state.store, payload.image)
    complete = model.resolved(payload.model_copy(update={"image": image}), state.profile)

    async def make() -> EditResponse:
        source = await load_image(state.store, image)
        model.require_size(source, state.profile)
        edited = await state.batcher(Edit(source, model.text_for(complete, state.profile), complete))
        editor = worn(readiness.models["editing"], payload.adapter)
        return EditResponse(image=await store_image(state.store, edited), model=editor)

    models = {**readiness.models, "manner": state.manner}
    return await while_connected(request, answered(request, "editing", models, complete, make))
