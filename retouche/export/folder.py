"""Write a job's pairs as a data-set folder: streamed into Parquet files, there whole or not at all."""

import secrets
import shutil
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from hashlib import sha256
from itertools import groupby, islice
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from retouche.client import Retouche
from retouche.contract.jobs import Job, PreferencePair
from retouche.contract.reviews import Reviewed
from retouche.errors import Conflict
from retouche.export.card import Statistics, card
from retouche.export.layout import SCHEMA, row
from retouche.export.unfinished import refuse_unfinished

FILE_BYTES = 400_000_000  # a file is closed once it has as many
_PAIRS_AT_ONCE = 32  # in memory with their images, and a row group
_DOWNLOADS_AT_ONCE = 8


def write_folder(
    client: Retouche,
    job_id: str,
    folder: Path,
    *,
    validation: float = 0.0,
    reviewed: Reviewed = "all",
    file_bytes: int = FILE_BYTES,
) -> Statistics:
    """Write data/train-*.parquet, data/validation-*.parquet and README.md.

    Everything is written beside `folder` under a hidden name and renamed in the end. `validation` is the
    share of prompts, 0 to 1, whose pairs are set aside; a prompt is in one split alone. `reviewed` says which
    pairs, by what people decided about them.

    Raises:
        Conflict: `folder` is there already; the job is still going on, or has no pairs.
        RetoucheError: whatever the gateway answers, ImageNotFound where an image has gone from the store.
    """
    if folder.exists():
        raise Conflict(f"{folder} is there already; name another folder, or remove it")
    job = client.job(job_id)
    refuse_unfinished(job)
    unfinished = folder.with_name(f".{folder.name}.{secrets.token_hex(4)}")
    try:
        statistics = _write(client, job, client.pairs(job_id, reviewed), unfinished, validation, file_bytes)
        unfinished.rename(folder)
    except BaseException:
        shutil.rmtree(unfinished, ignore_errors=True)
        raise
    return statistics


def _write(
    client: Retouche,
    job: Job,
    pairs: Iterable[PreferencePair],
    folder: Path,
    validation: float,
    file_bytes: int,
) -> Statistics:
    (folder / "data").mkdir(parents=True)
    statistics = Statistics()
    splits = {name: _Split(folder / "data", name, file_bytes) for name in ("train", "validation")}
    with ThreadPoolExecutor(_DOWNLOADS_AT_ONCE) as pool:
        for part in _parts(_with_counts(pairs, statistics)):
            references = sorted({image for pair, _ in part for image in (pair.chosen, pair.rejected)})
            images = dict(zip(references, pool.map(client.image, references), strict=True))
            rows: dict[str, list[dict[str, Any]]] = {}
            for pair, pairs_of_prompt in part:
                split = _split_of(pair.prompt, validation)
                statistics.add(split, pair)
                rows.setdefault(split, []).append(row(pair, images, pairs_of_prompt, job.created_at))
            for split, entries in rows.items():
                splits[split].write(entries)
    if not statistics.splits:
        raise Conflict(
            f"{job.id} has no preference pairs that `reviewed` leaves; its report says what was lost and why"
        )
    if not statistics.splits["train"]:
        raise Conflict(f"all pairs of {job.id} went into the validation split; set a smaller share aside")
    for files in splits.values():
        files.finish()
    (folder / "README.md").write_text(card(job, statistics))
    return statistics


class _Split:
    """The files of one split: written as parts, named once it is known how many there are."""

    def __init__(self, folder: Path, name: str, file_bytes: int) -> None:
        self._folder = folder
        self._name = name
        self._file_bytes = file_bytes
        self._parts: list[Path] = []
        self._writer: pq.ParquetWriter | None = None

    def write(self, rows: list[dict[str, Any]]) -> None:
        if self._writer is None:
            self._parts.append(self._folder / f"{self._name}-{len(self._parts):05d}.part")
            self._writer = pq.ParquetWriter(self._parts[-1], SCHEMA, compression="zstd", use_dictionary=False)
        self._writer.write_table(pa.Table.from_pylist(rows, schema=SCHEMA))
        if self._parts[-1].stat().st_size >= self._file_bytes:
            self._close()

    def finish(self) -> None:
        self._close()
        for index, part in enumerate(self._parts):
            part.rename(part.with_name(f"{self._name}-{index:05d}-of-{len(self._parts):05d}.parquet"))

    def _close(self) -> None:
        if self._writer is not None:
            self._writer.close()
        self._writer = None


def _with_counts(
    pairs: Iterable[PreferencePair], statistics: Statistics
) -> Iterator[tuple[PreferencePair, int]]:
    """Each pair, and how many pairs its prompt has: they come one after another."""
    for _, group in groupby(pairs, key=lambda pair: pair.prompt_index):
        same_prompt = list(group)
        statistics.prompts += 1
        for pair in same_prompt:
            yield pair, len(same_prompt)


def _parts(pairs: Iterator[tuple[PreferencePair, int]]) -> Iterator[list[tuple[PreferencePair, int]]]:
    while part := list(islice(pairs, _PAIRS_AT_ONCE)):
        yield part


def _split_of(prompt: str, validation: float) -> str:
    share = int(sha256(f"split\n{prompt}".encode()).hexdigest()[:8], 16) / 2**32
    return "validation" if share < validation else "train"
