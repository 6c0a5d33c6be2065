"""POST /v1/generate."""

import asyncio
from functools import partial

from fastapi import APIRouter, FastAPI, Request, Response

from retouche.contract.services import Readiness
from retouche.contract.stages import GenerateRequest, GenerateResponse
from retouche.identity import identify, worn
from retouche.profile import load_profile, located
from retouche.store import open_store
from services.adapters import fetch
from services.full_batches import in_full_batches
from services.generation import model
from services.generation.settings import Settings
from services.manner import manner
from serving.app import Loaded, create_service, require_ready, while_connected
from serving.batching import MicroBatcher
from serving.images import store_image
from serving.memo import answered

router = APIRouter(tags=["generation"])


def create_app(settings: Settings | None = None) -> FastAPI:
    """The generation service."""
    return create_service("Retouche generation", router, _load, settings or Settings())


async def _load(settings: Settings, app: FastAPI) -> Loaded:
    profile = load_profile(settings.profile).generation
    pipeline = await asyncio.to_thread(model.load, profile)
    batcher = MicroBatcher(
        in_full_batches(partial(model.generate, pipeline), profile.max_batch),
        key=model.batch_key,
        max_batch=profile.max_batch,
        max_waiting=settings.max_waiting,
        metrics=app.state.metrics,
    )
    await batcher.start()
    app.state.store, app.state.batcher = await open_store(settings.store), batcher
    app.state.resolve = partial(model.resolved, profile=profile, pipeline=pipeline)
    app.state.manner = manner(profile)
    app.state.base = await asyncio.to_thread(identify, located(profile.model), profile.revision)
    identity = await asyncio.to_thread(model.identity, profile)
    return Readiness(models={"generation": identity}), batcher.stop


@router.post("/v1/generate", response_model=GenerateResponse)
async def generate(payload: GenerateRequest, request: Request) -> Response:
    """One image for one prompt: the same request always gives the same image."""
    readiness, state = require_ready(request), request.app.state
    await fetch(state.store, payload.adapter, state.base)
    resolved = state.resolve(payload)

    async def make() -> GenerateResponse:
        image = await state.batcher(resolved)
        model = worn(readiness.models["generation"], payload.adapter)
        return GenerateResponse(image=await store_image(state.store, image), model=model)

    models = {**readiness.models, "manner": state.manner}
    return await while_connected(request, answered(request, "generation", models, resolved, make))
