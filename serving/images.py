"""Images of requests: references and data URIs to pixels, pixels to references."""

import asyncio
from collections.abc import Sequence

from PIL import Image

from retouche.contract.payload import ImageInput, ImageRef
from retouche.images import decode, encode, from_data_uri
from retouche.store import ObjectStore


async def referenced(store: ObjectStore, image: ImageInput) -> ImageRef:
    """The reference of an image given by reference or as a data URI, which is stored first."""
    if not image.startswith("data:"):
        return image
    return await store_image(store, await asyncio.to_thread(decode, from_data_uri(image)))


async def all_referenced(store: ObjectStore, images: Sequence[ImageInput]) -> list[ImageRef]:
    """The reference of each."""
    if not any(image.startswith("data:") for image in images):
        return list(images)
    return list(await asyncio.gather(*(referenced(store, image) for image in images)))


async def load_image(store: ObjectStore, reference: ImageRef) -> Image.Image:
    """The RGB image behind a reference; ImageNotFound if the store has none."""
    return await asyncio.to_thread(lambda: decode(store.read_image(reference)))


async def store_image(store: ObjectStore, image: Image.Image) -> ImageRef:
    """Encode an image once and store it under its digest."""
    return await store.put_image(await asyncio.to_thread(encode, image))
