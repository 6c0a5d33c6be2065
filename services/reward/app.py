"""POST /v1/reward, and the models behind it."""

import asyncio

from fastapi import APIRouter, FastAPI, Request, Response

from retouche.contract.services import Readiness
from retouche.contract.stages import RewardRequest, RewardResponse
from retouche.profile import load_profile
from retouche.store import open_store
from services.full_batches import in_full_batches
from services.reward import distance, model
from services.reward.clip import CosineReward
from services.reward.distance import ImageSpace
from services.reward.known import among
from services.reward.reward_model import Judged
from services.reward.settings import Settings
from serving.app import Loaded, create_service, require_ready, while_connected
from serving.batching import MicroBatcher
from serving.images import load_image, referenced
from serving.memo import answered

router = APIRouter(tags=["reward"])
router.include_router(distance.router)


def create_app(settings: Settings | None = None) -> FastAPI:
    """The reward service."""
    return create_service("Retouche reward", router, _load, settings or Settings())


async def _load(settings: Settings, app: FastAPI) -> Loaded:
    rewards = load_profile(settings.profile).rewards
    models = await asyncio.to_thread(model.load, rewards)
    app.state.store = await open_store(settings.store)
    app.state.batchers = {
        name: MicroBatcher(
            in_full_batches(loaded, rewards[name].max_batch),
            key=_any_prompt,
            max_batch=rewards[name].max_batch,
            max_waiting=64 * settings.max_waiting,
            metrics=app.state.metrics,
        )
        for name, loaded in models.items()
    }
    app.state.spaces = {
        name: ImageSpace(loaded.features, rewards[name].max_batch)
        for name, loaded in models.items()
        if isinstance(loaded, CosineReward)
    }
    for batcher in app.state.batchers.values():
        await batcher.start()
    identities = {name: await asyncio.to_thread(model.identity, choice) for name, choice in rewards.items()}
    margins = {name: choice.margin for name, choice in rewards.items()}

    async def stop() -> None:
        for batcher in app.state.batchers.values():
            await batcher.stop()

    return Readiness(models=identities, margins=margins), stop


def _any_prompt(_: Judged) -> None:
    """All of a model's images can share a batch."""


@router.post("/v1/reward")
async def reward(payload: RewardRequest, request: Request, response: Response) -> RewardResponse:
    """Scores of images under a prompt; all of the service's reward models where none is named."""
    readiness, state = require_ready(request), request.app.state
    names = among(payload.rewards or sorted(state.batchers), state.batchers, "rewards")
    images = list(await asyncio.gather(*(referenced(state.store, image) for image in payload.images)))
    complete = payload.model_copy(update={"images": images, "rewards": names})
    models = {name: readiness.models[name] for name in names}

    async def make() -> RewardResponse:
        loaded = await asyncio.gather(*(load_image(state.store, image) for image in images))
        judged = [Judged(payload.prompt, image) for image in loaded]
        scores = [await asyncio.gather(*(state.batchers[name](item) for item in judged)) for name in names]
        rows = [dict(zip(names, row, strict=True)) for row in zip(*scores, strict=True)]
        return RewardResponse(scores=rows, models=models)

    return await while_connected(
        request, answered(request, response, "reward", models, complete, make, RewardResponse)
    )
