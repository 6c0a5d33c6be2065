"""Pairs of a folder in the layout of Pick-a-Pic v2: data/train-*.parquet, images as binary columns."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from hashlib import sha256
from math import isnan
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from retouche.errors import BadImage, PayloadTooLarge
from retouche.images import decode, encode
from retouche.store import ObjectStore
from trainer.pairs import TrainingPair
from trainer.refusal import refused

_IMAGE = ("binary", "large_binary")
_LABEL = ("double", "float", "halffloat", "int64", "int32", "int8")
_TEXT = ("string", "large_string")
COLUMNS = {"jpg_0": _IMAGE, "jpg_1": _IMAGE, "label_0": _LABEL, "label_1": _LABEL, "caption": _TEXT}
_ROWS_AT_ONCE = 256
_FIELD = "data.pick_a_pic"


@dataclass(frozen=True)
class Imported:
    """The pairs of a folder, how many rows were left out by reason, and the rows that could not be read."""

    pairs: list[TrainingPair]
    dropped: dict[str, int]
    unreadable: list[str]


async def folder_pairs(store: ObjectStore, folder: str) -> Imported:
    """Every labelled, untied row as a pair, its images in the store.

    Raises:
        BadRequest: no such files, or one that lacks a column or has it in another type; names it.
    """
    pairs: list[TrainingPair] = []
    dropped: Counter[str] = Counter()
    unreadable: list[str] = []
    for where, row in _rows(_files(folder)):
        if (reason := _reason_to_drop(row)) is not None:
            dropped[reason] += 1
            continue
        try:
            images = [encode(decode(row[name])) for name in ("jpg_0", "jpg_1")]
        except (BadImage, PayloadTooLarge) as error:
            dropped["unreadable_image"] += 1
            unreadable.append(f"{where}: {error.detail}")
            continue
        references = [await store.put_image(image) for image in images]
        if references[0] == references[1]:
            dropped["same_image"] += 1
            continue
        chosen, rejected = references if row["label_0"] > row["label_1"] else references[::-1]
        identity = sha256(f"{row['caption']}\n{chosen}\n{rejected}".encode()).hexdigest()[:32]
        pairs.append(TrainingPair(identity, row["caption"], chosen, rejected))
    if not pairs:
        raise refused(_FIELD, f"{folder} holds no pair to train on; rows were dropped as {dict(dropped)}")
    return Imported(pairs, dict(dropped), unreadable)


def _files(folder: str) -> list[Path]:
    files = sorted(Path(folder).glob("data/train-*.parquet"))
    if not files:
        raise refused(_FIELD, f"{folder} holds no data/train-*.parquet that this trainer can read")
    for path in files:
        try:
            schema = pq.read_schema(path)
        except (pa.ArrowInvalid, OSError) as error:
            raise refused(_FIELD, f"{path} cannot be read as Parquet: {error}") from None
        _check_columns(path, schema)
    return files


def _check_columns(path: Path, schema: pa.Schema) -> None:
    for name, types in COLUMNS.items():
        if name not in schema.names:
            raise refused(_FIELD, f"{path} lacks the column {name!r} of Pick-a-Pic; it has {schema.names}")
        if (found := str(schema.field(name).type)) not in types:
            raise refused(_FIELD, f"{path} has {found} in the column {name!r}; write it as {types[0]}")


def _rows(files: list[Path]) -> Iterator[tuple[str, dict[str, Any]]]:
    for path in files:
        number = 1
        for part in pq.ParquetFile(path).iter_batches(_ROWS_AT_ONCE):
            for row in part.to_pylist():
                yield f"{path.name} row {number:,}", row
                number += 1


def _reason_to_drop(row: dict[str, Any]) -> str | None:
    labels = (row["label_0"], row["label_1"])
    if row.get("has_label") is False or any(label is None or isnan(label) for label in labels):
        return "no_label"
    if row["label_0"] == row["label_1"]:
        return "tie"
    if row.get("are_different") is False:
        return "same_image"
    if not row["jpg_0"] or not row["jpg_1"]:
        return "missing_image"
    return None if row["caption"] else "no_caption"
