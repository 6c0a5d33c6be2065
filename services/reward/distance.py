"""POST /v1/distance."""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from fastapi import APIRouter, Request, Response
from PIL import Image

from retouche.contract.payload import ImageRef
from retouche.contract.stages import DistanceRequest, DistanceResponse
from retouche.store import ObjectStore
from services.full_batches import in_full_batches
from services.reward.frechet import frechet_distance
from services.reward.known import among
from serving.app import require_ready, while_connected
from serving.images import all_referenced, load_image
from serving.memo import answered

_READ_AT_ONCE = 64  # images of a set: it may have thousands

router = APIRouter(tags=["reward"])


@dataclass(frozen=True)
class ImageSpace:
    """Where a reward model places pictures: `features` of at most `max_batch` pictures at a time."""

    features: Callable[[Sequence[Image.Image]], list[list[float]]]
    max_batch: int

    async def place(self, store: ObjectStore, images: Sequence[ImageRef]) -> list[list[float]]:
        """The features of images of the store, in their order."""
        features, whole = list[list[float]](), in_full_batches(self.features, self.max_batch)
        for begin in range(0, len(images), _READ_AT_ONCE):
            part = images[begin : begin + _READ_AT_ONCE]
            loaded = await asyncio.gather(*(load_image(store, image) for image in part))
            for first in range(0, len(loaded), self.max_batch):
                features += await asyncio.to_thread(whole, loaded[first : first + self.max_batch])
        return features


@router.post("/v1/distance", response_model=DistanceResponse)
async def distance(payload: DistanceRequest, request: Request) -> Response:
    """The Fréchet distance of two sets of images in a CLIP reward model's image space."""
    readiness, state = require_ready(request), request.app.state
    spaces: Mapping[str, ImageSpace] = state.spaces
    (name,) = among([payload.reward or min(spaces, default="any")], spaces, "reward")
    images, reference = [
        await all_referenced(state.store, part) for part in (payload.images, payload.reference)
    ]
    complete = payload.model_copy(update={"images": images, "reference": reference, "reward": name})
    models = {name: readiness.models[name]}

    async def make() -> DistanceResponse:
        features = [await spaces[name].place(state.store, part) for part in (images, reference)]
        apart = await asyncio.to_thread(frechet_distance, *features)
        return DistanceResponse(distance=apart, reward=name, model=models[name])

    return await while_connected(request, answered(request, "distance", models, complete, make))
