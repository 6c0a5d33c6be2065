"""Prompt sets: one JSON line a prompt, and an index beside them, so that a shard reads no more than its own.

The index has a record for each line and one for the end: where the line begins, and how often its prompt
stood in the set before. A line is a prompt, or a StartingImage.
"""

import asyncio
import hashlib
import json
import sqlite3
import struct
import tempfile
from collections.abc import Iterable
from contextlib import closing
from dataclasses import dataclass
from typing import IO

from retouche.contract.jobs import StartingImage
from retouche.store import ObjectStore, prompt_index_path, prompt_set_path

_RECORD = struct.Struct("<QI")
_IN_MEMORY = 4_000_000  # bytes of an index before it is spooled to disk
_SEEN = """
    PRAGMA journal_mode = OFF; PRAGMA cache_size = -24000;
    CREATE TABLE prompts (digest INTEGER PRIMARY KEY, repeats INTEGER); BEGIN;
"""
_COUNT = "INSERT INTO prompts VALUES (?, 0) ON CONFLICT DO UPDATE SET repeats = repeats + 1 RETURNING repeats"


@dataclass(frozen=True)
class Entry:
    """A line of a set. `repeat`: how often its prompt stood before it."""

    content: str | StartingImage
    repeat: int


async def keep(store: ObjectStore, lines: IO[bytes]) -> str:
    """Store a set of lines that were checked before, in constant memory; returns its digest."""
    reference = await asyncio.to_thread(_digest, lines)
    if await store.exists(prompt_set_path(reference)):
        return reference
    with tempfile.SpooledTemporaryFile(_IN_MEMORY) as index:
        lines.seek(0)
        await asyncio.to_thread(_write_index, lines, index)
        index.seek(0)
        await store.put_file(prompt_index_path(reference), index)  # first: a set that is there has its index
    lines.seek(0)
    await store.put_file(prompt_set_path(reference), lines)
    return reference


async def count(store: ObjectStore, reference: str) -> int:
    """How many prompts a set has; NotFound if there is no such set."""
    return await store.size(prompt_index_path(reference)) // _RECORD.size - 1


async def read(store: ObjectStore, reference: str, first: int, end: int) -> list[Entry]:
    """The lines from `first` up to, and without, `end`; NotFound if there is no such set."""
    index = await store.part(prompt_index_path(reference), first * _RECORD.size, (end + 1) * _RECORD.size)
    records = list(_RECORD.iter_unpack(index))
    text = await store.part(prompt_set_path(reference), records[0][0], records[-1][0])
    return [
        Entry(content if isinstance(content, str) else StartingImage.model_validate(content), repeat)
        for content, (_, repeat) in zip(map(json.loads, text.splitlines()), records, strict=False)
    ]


def _digest(lines: IO[bytes]) -> str:
    lines.seek(0)
    return "sha256:" + hashlib.file_digest(lines, "sha256").hexdigest()  # type: ignore[arg-type]


def _write_index(lines: Iterable[bytes], index: IO[bytes]) -> None:
    """Repeats are counted in a file of SQLite's, gone when it is closed: a set may have a million prompts."""
    begins = 0
    with closing(sqlite3.connect("")) as seen:
        seen.executescript(_SEEN)
        for line in lines:
            content = json.loads(line)
            prompt = content if isinstance(content, str) else content["prompt"]
            key = int.from_bytes(hashlib.blake2b(prompt.encode(), digest_size=8).digest(), signed=True)
            (repeat,) = seen.execute(_COUNT, (key,)).fetchone()
            index.write(_RECORD.pack(begins, repeat))
            begins += len(line)
    index.write(_RECORD.pack(begins, 0))
