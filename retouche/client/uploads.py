"""Data sets on their way to the gateway: as lines of a prompt set, never more than a few rows in memory."""

import asyncio
import json
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from itertools import chain, islice
from pathlib import Path
from typing import TypeVar

from retouche.contract.jobs import MAX_ORIGIN_CHARACTERS, ImageInfo, StartingImage
from retouche.errors import BadImage, PayloadTooLarge
from retouche.intake.images import Existing, Wanted, images_of
from retouche.intake.prompts import prompts_of
from retouche.intake.rows import Skipped

_IMAGES_AT_ONCE = 16
_PROMPTS_AT_ONCE = 1_000

T = TypeVar("T")


async def prompt_lines(source: Path | str, column: str | None, skipped: Skipped) -> AsyncIterator[bytes]:
    """The prompts of a data set, a JSON string a line; raises what `prompts_of` does.

    A data set of which nothing can be used is refused here, not while the lines are read.
    """
    prompts = prompts_of(source, column, skipped)
    first = await asyncio.to_thread(lambda: list(islice(prompts, _PROMPTS_AT_ONCE)))
    return _json_lines(_some(chain(first, prompts), _PROMPTS_AT_ONCE))


@asynccontextmanager
async def starting_image_lines(
    source: Path | str, wanted: Wanted, skipped: Skipped, upload: Callable[[bytes], Awaitable[ImageInfo]]
) -> AsyncIterator[AsyncIterator[bytes]]:
    """Upload the images of a data set, then give a line for each; raises what `images_of` does."""
    with tempfile.TemporaryFile() as spool:
        async for some in _some(images_of(source, wanted, skipped), _IMAGES_AT_ONCE):
            for stored in await asyncio.gather(*(_stored(existing, upload) for existing in some)):
                spool.write(stored.model_dump_json(exclude_none=True).encode() + b"\n")
        spool.seek(0)
        yield _joined(_some(spool, _PROMPTS_AT_ONCE))


async def _stored(existing: Existing, upload: Callable[[bytes], Awaitable[ImageInfo]]) -> StartingImage:
    """An image that the gateway refuses stands in the set with the reason: the job counts and names it."""
    origin = existing.origin.encode(errors="replace").decode()[:MAX_ORIGIN_CHARACTERS]
    try:
        if existing.encoded is None:
            raise BadImage("there is no image")
        image = (await upload(existing.encoded)).image
        return StartingImage(prompt=existing.prompt, origin=origin, image=image)
    except (BadImage, PayloadTooLarge) as error:
        return StartingImage(
            prompt=existing.prompt, origin=origin, problem=error.detail[:MAX_ORIGIN_CHARACTERS]
        )


async def _some(items: Iterator[T], count: int) -> AsyncIterator[list[T]]:
    """So many items at a time, read in a thread."""
    while some := await asyncio.to_thread(lambda: list(islice(items, count))):
        yield some


async def _json_lines(parts: AsyncIterator[list[str]]) -> AsyncIterator[bytes]:
    async for part in parts:
        yield b"".join(json.dumps(prompt, ensure_ascii=False).encode() + b"\n" for prompt in part)


async def _joined(parts: AsyncIterator[list[bytes]]) -> AsyncIterator[bytes]:
    async for part in parts:
        yield b"".join(part)
