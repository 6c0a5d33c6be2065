"""POST /v1/distance."""

import asyncio
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Mapping, Sequence

import numpy as np
from fastapi import APIRouter, Request, Response
from numpy.typing import NDArray

from retouche.contract.payload import ImageRef
from retouche.contract.stages import MOST_COMPARED, DistanceRequest, DistanceResponse
from retouche.store import ObjectStore
from retouche.together import together
from services.reward.frechet import frechet_distance
from services.reward.known import among
from serving.app import require_ready, while_connected
from serving.images import all_referenced
from serving.memo import answered

_READ_AT_ONCE = 64  # images of a set: it may have thousands
_REMEMBERED = 2 * MOST_COMPARED  # 160 MB where a model has a thousand dimensions

router = APIRouter(tags=["reward"])


class ImageSpace:
    """Where a reward model places pictures.

    Those placed last are remembered: whoever compares two models with one reference asks for it twice.
    """

    def __init__(
        self,
        prepare: Callable[[bytes], Awaitable[bytes]],
        features: Callable[[Sequence[bytes]], list[list[float]]],
        max_batch: int,
    ) -> None:
        """`features` of at most `max_batch` prepared pictures at a time, single-precision numbers."""
        self._prepare = prepare
        self._features = features
        self._max_batch = max_batch
        self._placed: OrderedDict[ImageRef, NDArray[np.float32]] = OrderedDict()

    async def place(self, store: ObjectStore, images: Sequence[ImageRef]) -> NDArray[np.float32]:
        """The features, (N, D), of N images of the store."""
        placed = {image: self._placed[image] for image in images if image in self._placed}
        missing = [image for image in dict.fromkeys(images) if image not in placed]
        for begin in range(0, len(missing), _READ_AT_ONCE):
            part = missing[begin : begin + _READ_AT_ONCE]
            prepared = await together(self._prepared(store, image) for image in part)
            for first in range(0, len(part), self._max_batch):
                some = slice(first, first + self._max_batch)
                found = await asyncio.to_thread(self._features, prepared[some])
                placed |= zip(part[some], np.asarray(found, dtype=np.float32), strict=True)
        self._remember(placed)
        return np.stack([placed[image] for image in images])

    async def _prepared(self, store: ObjectStore, image: ImageRef) -> bytes:
        return await self._prepare(await store.get_image(image))

    def _remember(self, placed: Mapping[ImageRef, NDArray[np.float32]]) -> None:
        for image, features in placed.items():
            self._placed[image] = features
            self._placed.move_to_end(image)
        while len(self._placed) > _REMEMBERED:
            self._placed.popitem(last=False)


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
    model = readiness.models[name]
    models = {name: model, f"{name}/manner": state.manners[name]}

    async def make() -> DistanceResponse:
        features = [await spaces[name].place(state.store, part) for part in (images, reference)]
        apart = await asyncio.to_thread(frechet_distance, *features)
        return DistanceResponse(distance=apart, reward=name, model=model)

    return await while_connected(request, answered(request, "distance", models, complete, make))
