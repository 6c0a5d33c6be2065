"""A shard reads its own part of a prompt set, and knows how often each prompt stood before it."""

import asyncio
import io
import json

import pytest

from retouche import prompt_sets
from retouche.contract.jobs import StartingImage
from retouche.errors import NotFound
from retouche.prompt_sets import Entry
from retouche.store import ObjectStore

PROMPTS = ["a cat", "a dog", "a cat", "ein Käfer 🪲", "a cat", "a dog"]
LINES = b"".join(json.dumps(prompt).encode() + b"\n" for prompt in PROMPTS)


def kept(store: ObjectStore, lines: bytes) -> str:
    return asyncio.run(prompt_sets.keep(store, io.BytesIO(lines)))


@pytest.mark.parametrize(("first", "end", "repeats"), [(0, 3, [0, 0, 1]), (3, 6, [0, 2, 1]), (5, 6, [1])])
def test_a_part_is_read_with_its_repeats(
    store: ObjectStore, first: int, end: int, repeats: list[int]
) -> None:
    entries = asyncio.run(prompt_sets.read(store, kept(store, LINES), first, end))
    expected = [Entry(*pair) for pair in zip(PROMPTS[first:end], repeats, strict=True)]
    assert entries == expected


def test_a_set_knows_how_many_it_has(store: ObjectStore) -> None:
    assert asyncio.run(prompt_sets.count(store, kept(store, LINES))) == len(PROMPTS)


def test_images_to_start_from_are_lines_too(store: ObjectStore) -> None:
    starts = [StartingImage(prompt="a cat", problem="gone", origin=f"row {row}") for row in (1, 2)]
    reference = kept(store, b"".join(start.model_dump_json().encode() + b"\n" for start in starts))
    entries = asyncio.run(prompt_sets.read(store, reference, 0, 2))
    assert entries == [Entry(starts[0], 0), Entry(starts[1], 1)]


def test_the_same_lines_are_the_same_set(store: ObjectStore) -> None:
    assert kept(store, LINES) == kept(store, LINES)


def test_a_set_that_is_not_there(store: ObjectStore) -> None:
    with pytest.raises(NotFound):
        asyncio.run(prompt_sets.read(store, "sha256:" + "0" * 64, 0, 1))
