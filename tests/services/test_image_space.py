"""Where pictures are placed is remembered, so that a reference that is asked for again costs nothing."""

import asyncio
from collections.abc import Sequence

from PIL import Image

from retouche.images import decode, encode
from retouche.store import ObjectStore
from services.reward.distance import ImageSpace


class Tones:
    """Places a picture by its colour; notes how many it was shown."""

    def __init__(self) -> None:
        self.shown: list[int] = []

    async def prepare(self, image: bytes) -> bytes:
        return decode(image).tobytes()

    def place(self, images: Sequence[bytes]) -> list[list[float]]:
        self.shown.append(len(images))
        return [[float(value) for value in image[:3]] for image in images]


def test_pictures_are_placed_once_in_their_order_whoever_asks_again(store: ObjectStore) -> None:
    tones = Tones()
    space = ImageSpace(tones.prepare, tones.place, max_batch=2)

    async def placed() -> list[list[list[float]]]:
        images = [await store.put_image(encode(Image.new("RGB", (4, 4), (n, 0, 0)))) for n in range(5)]
        asked = (images[:3], images[1:], [*images[::-1], images[0]])
        return [(await space.place(store, some)).tolist() for some in asked]

    first, second, third = asyncio.run(placed())
    assert first == [[float(n), 0.0, 0.0] for n in (0, 1, 2)]
    assert second == [[float(n), 0.0, 0.0] for n in (1, 2, 3, 4)]
    assert third == [[float(n), 0.0, 0.0] for n in (4, 3, 2, 1, 0, 0)]
    assert len(tones.shown) == 3, "batches: two of the first three pictures, one of the two that came later"
