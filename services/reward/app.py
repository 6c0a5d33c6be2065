"""POST /v1/reward, and the models behind it."""

import asyncio

from fastapi import APIRouter, FastAPI, Request, Response

from retouche.contract.payload import ImageRef
from retouche.contract.services import Readiness
from retouche.contract.stages import RewardRequest, RewardResponse, Score
from retouche.profile import load_profile
from retouche.store import open_store
from retouche.together import together
from services.manner import manner
from services.reward import distance
from services.reward.distance import ImageSpace
from services.reward.identity import identity
from services.reward.judged import Encoded
from services.reward.known import among
from services.reward.settings import Settings
from serving.app import Loaded, create_service, require_ready, while_connected
from serving.batching import MicroBatcher
from serving.images import all_referenced
from serving.memo import answered
from serving.model_process import ModelProcess

_READ_AT_ONCE = 64  # images of a request: some batches for each model, and a bound for memory

router = APIRouter(tags=["reward"])
router.include_router(distance.router)


def create_app(settings: Settings | None = None) -> FastAPI:
    """The reward service."""
    return create_service("Retouche reward", router, _load, settings or Settings())


async def _load(settings: Settings, app: FastAPI) -> Loaded:
    rewards = load_profile(settings.profile).rewards
    models = await asyncio.to_thread(ModelProcess, "services.reward.model:steps", rewards)
    app.state.store = await open_store(settings.store)
    app.state.batchers = {
        name: MicroBatcher(
            models.run(name),
            prepare=models.prepare(name),
            key=_any_prompt,
            max_batch=choice.max_batch,
            max_waiting=64 * settings.max_waiting,
            at_once=2,
            metrics=app.state.metrics,
        )
        for name, choice in rewards.items()
    }
    app.state.spaces = {
        name: ImageSpace(models.prepare(step), models.run(step), choice.max_batch)
        for name, choice in rewards.items()
        if (step := f"{name}/features") in models.steps
    }
    for batcher in app.state.batchers.values():
        await batcher.start()
    app.state.manners = {name: manner(choice, "kind") for name, choice in rewards.items()}
    identities = {name: await asyncio.to_thread(identity, choice) for name, choice in rewards.items()}
    margins = {name: choice.margin for name, choice in rewards.items()}

    async def stop() -> None:
        for batcher in app.state.batchers.values():
            await batcher.stop()
        await asyncio.to_thread(models.close)

    return Readiness(models=identities, margins=margins), stop


def _any_prompt(_: Encoded) -> None:
    """All of a model's images can share a batch."""


@router.post("/v1/reward", response_model=RewardResponse)
async def reward(payload: RewardRequest, request: Request) -> Response:
    """Scores of images under a prompt; all of the service's reward models where none is named."""
    readiness, state = require_ready(request), request.app.state
    names = among(payload.rewards or sorted(state.batchers), state.batchers, "rewards")
    images = await all_referenced(state.store, payload.images)
    complete = payload.model_copy(update={"images": images, "rewards": names})
    models = {name: readiness.models[name] for name in names}
    key = models | {f"{name}/manner": state.manners[name] for name in names}

    room = asyncio.Semaphore(_READ_AT_ONCE)

    async def scored(image: ImageRef) -> dict[str, Score]:
        async with room:
            encoded = Encoded(payload.prompt, await state.store.get_image(image))
            row = await together(state.batchers[name](encoded) for name in names)
        return dict(zip(names, row, strict=True))

    async def make() -> RewardResponse:
        return RewardResponse(scores=await together(map(scored, images)), models=models)

    return await while_connected(request, answered(request, "reward", key, complete, make))
