"""Rows of text, CSV, TSV, JSONL, JSON and Parquet files, one at a time and each with its place.

A row that cannot be read is told with its place, and the rest goes on. All but JSON, which is for small
files, takes the same memory however long the file is.
"""

import csv
import json
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from retouche.errors import BadPrompts

_MOST_LINE_BYTES = 1_000_000
_MOST_JSON_BYTES = 100_000_000
_ROWS_AT_ONCE = 16  # of Parquet: they may hold images
_UTF_16 = (b"\xff\xfe", b"\xfe\xff")
_LISTED = 20


@dataclass(frozen=True)
class Row:
    """`place`: the file and the row, for people."""

    place: str
    values: Mapping[str, Any]


@dataclass(frozen=True)
class Unreadable:
    """A row that is none, and why."""

    place: str
    problem: str


@dataclass
class Skipped:
    """Rows that were left out: how many, and the first of them with place and problem."""

    count: int = 0
    problems: list[str] = field(default_factory=list)

    def add(self, place: str, problem: str) -> None:
        self.count += 1
        if len(self.problems) < _LISTED:
            self.problems.append(f"{place}: {problem}")


@dataclass(frozen=True)
class DataFile:
    """`columns`: None where every row names its own. `read` takes the columns that are wanted."""

    name: str
    columns: list[str] | None
    read: Callable[[Collection[str]], Iterator[Row | Unreadable]]


def open_file(file: Path, name: str) -> DataFile:
    """Open by the file's ending, anything unknown as text; `name` is what it is called in messages.

    Raises:
        BadPrompts: it is empty, in UTF-16, has no header, or is not what its ending says.
    """
    if file.stat().st_size == 0:
        raise BadPrompts(f"{name} is empty")
    with file.open("rb") as stream:
        if stream.read(2) in _UTF_16:
            raise BadPrompts(f"{name} is UTF-16; convert it: iconv -f UTF-16 -t UTF-8 {name}")
    kinds = {
        ".csv": lambda: _separated(file, name, ","),
        ".tsv": lambda: _separated(file, name, "\t"),
        ".jsonl": lambda: DataFile(name, None, lambda _: _json_lines(file, name)),
        ".ndjson": lambda: DataFile(name, None, lambda _: _json_lines(file, name)),
        ".json": lambda: DataFile(name, None, lambda _: _json(file, name)),
        ".parquet": lambda: _parquet(file, name),
    }
    return kinds.get(file.suffix.lower(), lambda: DataFile(name, ["prompt"], lambda _: _text(file, name)))()


def undecodable(text: str) -> bool:
    """Whether bytes that are not UTF-8 were read into it."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return True
    return False


def _lines(file: Path) -> Iterator[str]:
    """Bytes that are not UTF-8 become surrogates; what is beyond _MOST_LINE_BYTES of a line is left out."""
    with file.open("rb") as stream:
        while line := stream.readline(_MOST_LINE_BYTES):
            end = line
            while len(end) == _MOST_LINE_BYTES and not end.endswith(b"\n"):
                end = stream.readline(_MOST_LINE_BYTES)
            yield line.decode(errors="surrogateescape").removeprefix("\ufeff")


def _text(file: Path, name: str) -> Iterator[Row]:
    for number, line in enumerate(_lines(file), 1):
        if line.strip():
            yield Row(f"{name} line {number:,}", {"prompt": line})


def _json_lines(file: Path, name: str) -> Iterator[Row | Unreadable]:
    for number, line in enumerate(_lines(file), 1):
        place = f"{name} line {number:,}"
        if not line.strip():
            continue
        try:
            yield _json_row(place, json.loads(line))
        except (ValueError, RecursionError) as error:
            yield Unreadable(place, f"is not JSON: {error}")


def _json(file: Path, name: str) -> Iterator[Row | Unreadable]:
    if (size := file.stat().st_size) > _MOST_JSON_BYTES:
        raise BadPrompts(f"{name} has {size:,} bytes, too many for one JSON document; make it JSONL")
    try:
        rows = json.loads(file.read_bytes())
    except (ValueError, RecursionError) as error:
        raise BadPrompts(f"{name} is not JSON: {error}") from None
    if not isinstance(rows, list):
        raise BadPrompts(f"{name} is not a JSON list of prompts or objects")
    for number, value in enumerate(rows, 1):
        yield _json_row(f"{name} row {number:,}", value)


def _json_row(place: str, value: object) -> Row | Unreadable:
    if isinstance(value, str):
        return Row(place, {"prompt": value})
    if isinstance(value, dict):
        return Row(place, value)
    return Unreadable(place, f"a string or an object is wanted, not {str(value)[:60]!r}")


def _separated(file: Path, name: str, delimiter: str) -> DataFile:
    _, header = next(_records(file, delimiter), (1, []))
    if isinstance(header, str) or not header:
        raise BadPrompts(f"{name} line 1 is no header of a table: {header or 'it is empty'}")
    if any(map(undecodable, header)):
        raise BadPrompts(f"{name} line 1, its header, is not UTF-8; convert it: iconv -t UTF-8 {name}")
    columns = [column.strip() for column in header]
    return DataFile(name, columns, lambda _: _cells(name, columns, _records(file, delimiter)))


def _records(file: Path, delimiter: str) -> Iterator[tuple[int, list[str] | str]]:
    """The line on which each record begins, and its cells, or what is wrong with it."""
    reader = csv.reader(_lines(file), delimiter=delimiter, strict=True)
    while True:
        began = reader.line_num + 1
        try:
            yield began, next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            yield began, f"is not CSV: {error}"


def _cells(
    name: str, columns: list[str], records: Iterable[tuple[int, list[str] | str]]
) -> Iterator[Row | Unreadable]:
    for index, (line, cells) in enumerate(records):
        place = f"{name} line {line:,}"
        if index == 0 or not cells:
            continue
        if isinstance(cells, str):
            yield Unreadable(place, cells)
        elif len(cells) != len(columns):
            yield Unreadable(place, f"has {len(cells)} cells where the header has {len(columns)}")
        else:
            yield Row(place, dict(zip(columns, cells, strict=True)))


def _parquet(file: Path, name: str) -> DataFile:
    try:
        columns = pq.read_schema(file).names
    except (pa.ArrowInvalid, OSError) as error:
        raise BadPrompts(f"{name} cannot be read as Parquet: {error}") from None
    return DataFile(name, columns, lambda wanted: _parquet_rows(file, name, [*wanted]))


def _parquet_rows(file: Path, name: str, columns: list[str]) -> Iterator[Row | Unreadable]:
    with pq.ParquetFile(file) as parquet:
        first = 1
        for group in range(parquet.num_row_groups):
            rows = parquet.metadata.row_group(group).num_rows
            number = first
            try:
                for batch in parquet.iter_batches(_ROWS_AT_ONCE, row_groups=[group], columns=columns):
                    for values in _values(batch):
                        place = f"{name} row {number:,}"
                        if isinstance(values, str):
                            yield Unreadable(place, values)
                        else:
                            yield Row(place, values)
                        number += 1
            except (pa.ArrowException, OSError) as error:
                problem = f"cannot be read: {str(error).splitlines()[0]}"
                yield Unreadable(f"{name} rows {number:,} to {first + rows - 1:,}", problem)
            first += rows


def _values(batch: pa.RecordBatch) -> list[dict[str, Any] | str]:
    """Each row's values, or what is wrong with it."""
    try:
        values: list[dict[str, Any] | str] = batch.to_pylist()
    except UnicodeDecodeError as error:
        if batch.num_rows == 1:
            return [f"is not UTF-8: {error}"]
        return [row for index in range(batch.num_rows) for row in _values(batch.slice(index, 1))]
    return values
