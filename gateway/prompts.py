"""Prompt sets: read as a stream, checked line by line, stored under their digest."""

import asyncio
import csv
import json
import tempfile
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Iterable
from contextlib import aclosing
from functools import partial
from typing import IO

from fastapi import APIRouter, Request
from pydantic import TypeAdapter, ValidationError

from gateway.callers import CURATE, TheCaller
from gateway.ownership import check_images
from retouche import prompt_sets
from retouche.contract.jobs import STARTING_IMAGES, PromptSetInfo, StartingImage
from retouche.contract.payload import Prompt
from retouche.errors import BadPrompts, ImageNotFound, PayloadTooLarge
from retouche.store import ObjectStore
from retouche.tenancy import own

router = APIRouter(tags=["prompts"])

MAX_PROMPTS = 1_000_000
MAX_BYTES = 500_000_000
MAX_LINE_BYTES = 20_000
COLUMNS = ("prompt", "Prompt", "caption", "text")

_PROMPT: TypeAdapter[str] = TypeAdapter(Prompt)
_CHECKED_AT_ONCE = 64
_IN_MEMORY = 4_000_000  # bytes of prompts before they are spooled to disk


@router.post(
    "/v1/prompts",
    status_code=201,
    dependencies=[CURATE],
    openapi_extra={
        "requestBody": {
            "required": True,
            "content": {
                kind: {"schema": {"type": "string"}}
                for kind in ("text/plain", "application/x-ndjson", "text/csv", STARTING_IMAGES)
            },
        }
    },
)
async def upload(caller: TheCaller, request: Request) -> PromptSetInfo:
    """Store a prompt set: one prompt a line, NDJSON, or CSV with a prompt column, by Content-Type.

    `application/vnd.retouche.starting-images` is a StartingImage a line, as JSON: an existing image, uploaded
    before, with its prompt.
    """
    kind = request.headers.get("content-type", "text/plain").split(";")[0].strip()
    with tempfile.SpooledTemporaryFile(_IN_MEMORY) as spool:
        async with aclosing(_lines(request)) as lines:
            check = partial(_starting_image, request, caller.tenant) if kind == STARTING_IMAGES else _prompt
            count = await _spool(_read(kind, lines), check, spool)
        return await keep(request.app.state.store, caller.tenant, spool, count)


async def keep_inline(store: ObjectStore, tenant: str, prompts: Iterable[str]) -> PromptSetInfo:
    """Store prompts that came within a job's specification."""
    with tempfile.SpooledTemporaryFile(_IN_MEMORY) as spool:
        count = 0
        for prompt in prompts:
            spool.write(json.dumps(prompt).encode() + b"\n")
            count += 1
        return await keep(store, tenant, spool, count)


async def keep(store: ObjectStore, tenant: str, spool: IO[bytes], count: int) -> PromptSetInfo:
    """Store what was spooled under its digest, for the tenant to see."""
    reference = await prompt_sets.keep(store, spool)
    await own(store, tenant, "prompts", reference)
    return PromptSetInfo(prompt_set=reference, prompts=count)


async def _spool(
    prompts: AsyncIterator[tuple[int, str]], check: Callable[[str], Awaitable[bytes]], spool: IO[bytes]
) -> int:
    count = 0
    async for some in _some(prompts):
        entries = await asyncio.gather(*(_entry(line, text, check) for line, text in some))
        count += len(entries)
        if count > MAX_PROMPTS:
            raise PayloadTooLarge(f"a prompt set may have {MAX_PROMPTS:,} prompts; split it")
        spool.writelines(entries)
    if count == 0:
        raise BadPrompts("there is no prompt in the body; send one a line")
    return count


async def _some(prompts: AsyncIterator[tuple[int, str]]) -> AsyncIterator[list[tuple[int, str]]]:
    """The lines that are not blank, so many at a time."""
    some = []
    async for line, text in prompts:
        if text.strip():
            some.append((line, text))
        if len(some) == _CHECKED_AT_ONCE:
            yield some
            some = []
    if some:
        yield some


async def _entry(line: int, text: str, check: Callable[[str], Awaitable[bytes]]) -> bytes:
    try:
        return await check(text) + b"\n"
    except ValidationError as error:
        first = error.errors()[0]
        field = "".join(f"{part}: " for part in first["loc"])
        raise BadPrompts(f"line {line}: {field}{first['msg']}; it begins {text[:60]!r}") from None
    except ImageNotFound as error:
        raise ImageNotFound(f"line {line}: {error.detail}") from None


async def _prompt(text: str) -> bytes:
    return json.dumps(_PROMPT.validate_python(text)).encode()


async def _starting_image(request: Request, tenant: str, text: str) -> bytes:
    start = StartingImage.model_validate_json(text)
    if start.image is not None:
        await check_images(request, tenant, [start.image])
    return start.model_dump_json(exclude_none=True).encode()


def _read(kind: str, lines: AsyncIterator[tuple[int, str]]) -> AsyncIterator[tuple[int, str]]:
    readers = {
        "text/plain": _plain,
        "application/x-ndjson": _ndjson,
        "text/csv": _csv,
        STARTING_IMAGES: _plain,
    }
    if kind not in readers:
        raise BadPrompts(f"Content-Type {kind!r} is not known; send one of {', '.join(readers)}")
    return readers[kind](lines)


async def _plain(lines: AsyncIterator[tuple[int, str]]) -> AsyncIterator[tuple[int, str]]:
    async for entry in lines:
        yield entry


async def _ndjson(lines: AsyncIterator[tuple[int, str]]) -> AsyncIterator[tuple[int, str]]:
    async for number, text in lines:
        if not text.strip():
            continue
        try:
            value = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise BadPrompts(f"line {number} is not JSON: {error}") from None
        prompt = (
            next((value[name] for name in COLUMNS if name in value), None)
            if isinstance(value, dict)
            else value
        )
        if not isinstance(prompt, str):
            raise BadPrompts(
                f'line {number}: a string or an object with "prompt" is wanted, not {text[:60]!r}'
            )
        yield number, prompt


async def _csv(lines: AsyncIterator[tuple[int, str]]) -> AsyncIterator[tuple[int, str]]:
    """Rows may span lines where a field is quoted: gather until the quotes are even."""
    header, column, pending, began = list[str](), None, "", 1
    async for number, text in lines:
        began = began if pending else number
        pending += text + "\n"
        if len(pending) > MAX_LINE_BYTES:
            raise BadPrompts(
                f"line {began}: a row with more than {MAX_LINE_BYTES:,} characters; is a quote open?"
            )
        if pending.count('"') % 2:
            continue
        row, pending = _row(began, pending.rstrip("\n")), ""
        if column is None:
            header = row
            column = next((index for index, name in enumerate(row) if name.strip() in COLUMNS), None)
            if column is None:
                raise BadPrompts(f"the CSV header {row} has none of the columns {', '.join(COLUMNS)}")
        elif row:
            if len(row) != len(header):
                raise BadPrompts(
                    f"line {began}: the row has {len(row)} cells where the header has {len(header)}; "
                    "put a prompt with commas in quotes"
                )
            yield began, row[column]
    if pending:
        raise BadPrompts(f"line {began}: a quoted field is never closed")


def _row(number: int, text: str) -> list[str]:
    try:
        return next(csv.reader([text]), [])
    except csv.Error as error:
        raise BadPrompts(f"line {number} is not CSV: {error}") from None


async def _lines(request: Request) -> AsyncGenerator[tuple[int, str]]:
    """Numbered lines of the body, as text, with never more than one in memory."""
    number, rest = 0, b""
    async for part in request.stream():
        *whole, rest = (rest + part).split(b"\n")
        for line in whole:
            number += 1
            yield number, _text(number, line)
        if len(rest) > MAX_LINE_BYTES:
            _text(number + 1, rest)
    if rest:
        yield number + 1, _text(number + 1, rest)


def _text(number: int, line: bytes) -> str:
    if len(line) > MAX_LINE_BYTES:
        raise BadPrompts(
            f"line {number} has more than {MAX_LINE_BYTES:,} bytes; a prompt may have 2,000 characters"
        )
    try:
        return line.decode().rstrip("\r").removeprefix("\ufeff")
    except UnicodeDecodeError as error:
        raise BadPrompts(f"line {number} is not UTF-8: {error.reason}") from None
