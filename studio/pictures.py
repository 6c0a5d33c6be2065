"""Pictures of pairs, fetched as the visitor and made fit for the page."""

import asyncio
import io
from collections import OrderedDict
from collections.abc import Sequence

from PIL import Image, ImageDraw

from retouche.client import AsyncRetouche
from retouche.contract.jobs import PreferencePair

_KEPT = 4000  # thumbnails, of some 10 kB each
_AT_ONCE = 12
_SIDE = 128  # pixels of a thumbnail
_CRISP_SIDE = 384  # smaller images are enlarged by whole factors, so that their pixels stay squares
_CHOSEN = "#0072b2"


async def picture(client: AsyncRetouche, reference: str) -> Image.Image:
    image = Image.open(io.BytesIO(await client.image(reference))).convert("RGB")
    factor = _CRISP_SIDE // max(image.size)
    if factor < 2:
        return image
    return image.resize((image.width * factor, image.height * factor), Image.Resampling.NEAREST)


class Thumbnails:
    """Both images of a pair side by side, the chosen one framed; the last ones seen are kept in memory."""

    def __init__(self) -> None:
        self._kept: OrderedDict[tuple[AsyncRetouche, str], Image.Image] = OrderedDict()

    async def of(self, client: AsyncRetouche, pairs: Sequence[PreferencePair]) -> list[Image.Image]:
        """One for each pair. Kept for the client that fetched it: another key may not see it."""
        room = asyncio.Semaphore(_AT_ONCE)

        async def one(pair: PreferencePair) -> Image.Image:
            key = (client, pair.id)
            if key not in self._kept:
                async with room:
                    images = [await picture(client, image) for image in (pair.original, pair.edited)]
                self._kept[key] = await asyncio.to_thread(_side_by_side, images, pair.chosen_is_edit)
            self._kept.move_to_end(key)
            if len(self._kept) > _KEPT:
                self._kept.popitem(last=False)
            return self._kept[key]

        return list(await asyncio.gather(*map(one, pairs)))


def _side_by_side(images: Sequence[Image.Image], second_is_chosen: bool) -> Image.Image:
    sheet = Image.new("RGB", (2 * _SIDE + 6, _SIDE), "white")
    for number, image in enumerate(images):
        shrunk = image.resize((_SIDE, _SIDE), Image.Resampling.BILINEAR)
        sheet.paste(shrunk, (number * (_SIDE + 6), 0))
    left = _SIDE + 6 if second_is_chosen else 0
    ImageDraw.Draw(sheet).rectangle([left, 0, left + _SIDE - 1, _SIDE - 1], outline=_CHOSEN, width=4)
    return sheet
