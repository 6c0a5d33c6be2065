"""POST /v1/reward, and the models behind it."""

import asyncio
from collections.abc import Sequence
from itertools import chain

from fastapi import APIRouter, FastAPI, Request, Response
from PIL import Image

from retouche.contract.payload import ImageRef
from retouche.contract.services import Readiness
from retouche.contract.stages import RewardRequest, RewardResponse, Score
from retouche.images import decode
from retouche.profile import load_profile
from retouche.store import ObjectStore, open_store
from services.full_batches import in_full_batches
from services.reward import distance, model
from services.reward.clip import CosineReward
from services.reward.distance import ImageSpace
from services.reward.known import among
from services.reward.reward_model import Judged
from services.reward.settings import Settings
from serving.app import Loaded, create_service, require_ready, while_connected
from serving.batching import MicroBatcher
from serving.images import all_referenced
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
    app.state.together = max(choice.max_batch for choice in rewards.values())
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


@router.post("/v1/reward", response_model=RewardResponse)
async def reward(payload: RewardRequest, request: Request) -> Response:
    """Scores of images under a prompt; all of the service's reward models where none is named."""
    readiness, state = require_ready(request), request.app.state
    names = among(payload.rewards or sorted(state.batchers), state.batchers, "rewards")
    images = await all_referenced(state.store, payload.images)
    complete = payload.model_copy(update={"images": images, "rewards": names})
    models = {name: readiness.models[name] for name in names}

    async def scored(group: Sequence[ImageRef]) -> list[dict[str, Score]]:
        decoded = await asyncio.to_thread(_decoded, state.store, group)
        judged = [Judged(payload.prompt, image) for image in decoded]
        columns = [await asyncio.gather(*map(state.batchers[name], judged)) for name in names]
        return [dict(zip(names, row, strict=True)) for row in zip(*columns, strict=True)]

    async def make() -> RewardResponse:
        # A batch of them at a time: the models begin while the next are still being read.
        groups = [images[begin : begin + state.together] for begin in range(0, len(images), state.together)]
        rows = await asyncio.gather(*map(scored, groups))
        return RewardResponse(scores=list(chain.from_iterable(rows)), models=models)

    return await while_connected(request, answered(request, "reward", models, complete, make))


def _decoded(store: ObjectStore, images: Sequence[ImageRef]) -> list[Image.Image]:
    return [decode(store.read_image(image)) for image in images]
