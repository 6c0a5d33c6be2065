"""Images of requests: references and data URIs to pixels, pixels to references."""

import asyncio
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from PIL import Image

from retouche.contract.payload import ImageInput, ImageRef
from retouche.images import DECODED_AT_ONCE, decode, encode, from_data_uri
from retouche.store import ObjectStore
from retouche.together import together

_STORED_AT_ONCE = 8  # of a request's data URIs: others ask as well, and what is encoded waits for the store

_threads = ThreadPoolExecutor(DECODED_AT_ONCE, thread_name_prefix="decoding")

GivenT = TypeVar("GivenT")
MadeT = TypeVar("MadeT")


async def decoding(work: Callable[[GivenT], MadeT], given: GivenT) -> MadeT:
    """What `work`, which decodes an image, makes of `given`; DECODED_AT_ONCE are under way in a process."""
    return await asyncio.get_running_loop().run_in_executor(_threads, work, given)


async def referenced(store: ObjectStore, image: ImageInput) -> ImageRef:
    """The reference of an image given by reference or as a data URI, which is stored first."""
    if not image.startswith("data:"):
        return image
    return await store.put_image(await decoding(_encoded, image))


async def all_referenced(store: ObjectStore, images: Sequence[ImageInput]) -> list[ImageRef]:
    """The reference of each."""
    if not any(image.startswith("data:") for image in images):
        return list(images)
    room = asyncio.Semaphore(_STORED_AT_ONCE)

    async def one(image: ImageInput) -> ImageRef:
        async with room:
            return await referenced(store, image)

    given = list(dict.fromkeys(images))
    references = dict(zip(given, await together(map(one, given)), strict=True))
    return [references[image] for image in images]


async def load_image(store: ObjectStore, reference: ImageRef) -> Image.Image:
    """The RGB image behind a reference; ImageNotFound if the store has none."""
    return await decoding(decode, await asyncio.to_thread(store.read_image, reference))


async def store_image(store: ObjectStore, image: Image.Image) -> ImageRef:
    """Encode an image once and store it under its digest."""
    return await store.put_image(await asyncio.to_thread(encode, image))


def _encoded(data_uri: str) -> bytes:
    """In one go: pixels that waited to be encoded would be a thousand times what was sent."""
    return encode(decode(from_data_uri(data_uri)))
