"""Shards as Parquet: a shard's preference pairs, with its report, and the traces of all its images.

The columns are what a researcher reads with pandas (PAIR_SCHEMA, TRACE_SCHEMA). Equal content gives
equal bytes, so two runs of the same shard write the same rows.
"""

from collections.abc import Iterable, Mapping
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from retouche.contract.jobs import ImageTrace, JobReport, PreferencePair
from retouche.contract.payload import JsonObject
from retouche.errors import RetoucheError

FORMAT_VERSION = 2

_FORMAT_KEY = b"retouche.format"
_REPORT_KEY = b"retouche.report"

_TEXT = pa.string()
_SCORES = pa.map_(_TEXT, pa.float64())
_MODEL = pa.struct({"id": _TEXT, "revision": _TEXT})
_MODELS = pa.struct(
    {
        "generation": _MODEL,
        "critique": _MODEL,
        "instruction": _MODEL,
        "editing": _MODEL,
        "rewards": pa.map_(_TEXT, _MODEL),
    }
)
_FINDINGS = pa.list_(pa.struct({"aspect": _TEXT, "subject": _TEXT, "problem": _TEXT}))
_INSTRUCTION = pa.struct({"action": _TEXT, "target": _TEXT, "text": _TEXT})
_EDIT = pa.struct(
    {
        "instruction": _INSTRUCTION,
        "seed": pa.int64(),
        "image": _TEXT,
        "scores": _SCORES,
        "outcome": _TEXT,
        "error": _TEXT,
    }
)

PAIR_SCHEMA = pa.schema(
    {
        "id": _TEXT,
        "prompt": _TEXT,
        "chosen": _TEXT,
        "rejected": _TEXT,
        "chosen_is_edit": pa.bool_(),
        "critique_description": _TEXT,
        "findings": _FINDINGS,
        "instruction": _INSTRUCTION,
        "chosen_scores": _SCORES,
        "rejected_scores": _SCORES,
        "models": _MODELS,
        "origin": _TEXT,
        "generation_seed": pa.int64(),
        "editing_seed": pa.int64(),
        "prompt_index": pa.int64(),
        "image_index": pa.int64(),
    }
)

_REVIEW = pa.struct({"pair": _TEXT, "decision": _TEXT, "reviewer": _TEXT, "at": pa.timestamp("us", tz="UTC")})
REVIEWED_SCHEMA = PAIR_SCHEMA.append(pa.field("review", _REVIEW))  # what is exported under a decision

TRACE_SCHEMA = pa.schema(
    {
        "prompt": _TEXT,
        "prompt_index": pa.int64(),
        "image_index": pa.int64(),
        "seed": pa.int64(),
        "origin": _TEXT,
        "image": _TEXT,
        "scores": _SCORES,
        "critique_description": _TEXT,
        "findings": _FINDINGS,
        "instructions": pa.list_(_INSTRUCTION),
        "edits": pa.list_(_EDIT),
        "dropped": _TEXT,
        "error": _TEXT,
    }
)


def write_pairs(pairs: Iterable[PreferencePair], report: JobReport) -> bytes:
    """A shard of pairs; the report goes into the schema's metadata under `retouche.report`."""
    rows = [_flat(pair.model_dump()) for pair in pairs]
    return _write(rows, PAIR_SCHEMA, {_REPORT_KEY: report.model_dump_json().encode()})


def write_pair_table(pairs: pa.Table) -> bytes:
    """Rows of PAIR_SCHEMA as a file that `read_pair_table` reads, without a report."""
    sink = pa.BufferOutputStream()
    stamped = pairs.replace_schema_metadata({_FORMAT_KEY: str(FORMAT_VERSION).encode()})
    pq.write_table(stamped, sink, compression="zstd")
    return bytes(sink.getvalue().to_pybytes())


def read_pairs(shard: bytes) -> list[PreferencePair]:
    """The pairs of a shard, in the order written; RetoucheError if it is not such a shard."""
    return pairs_of_table(read_pair_table(shard))


def read_pair_table(shard: bytes) -> pa.Table:
    """The pairs of a shard as its rows, without its report; RetoucheError if it is not such a shard."""
    return _table(shard, PAIR_SCHEMA)


def pairs_of_table(table: pa.Table) -> list[PreferencePair]:
    """The rows of PAIR_SCHEMA as pairs."""
    return [PreferencePair.model_validate(_nested(row)) for row in _rows(table)]


def reviewed_table(pairs: Iterable[PreferencePair]) -> pa.Table:
    """Pairs as rows of REVIEWED_SCHEMA, for an export."""
    return pa.Table.from_pylist([_flat(pair.model_dump()) for pair in pairs], schema=REVIEWED_SCHEMA)


def read_report(shard: bytes) -> JobReport:
    """The report of a shard of pairs; RetoucheError if it has none."""
    metadata = _metadata(shard)
    if _REPORT_KEY not in metadata:
        raise RetoucheError("this Parquet file carries no report: it is not a shard of preference pairs")
    return JobReport.model_validate_json(metadata[_REPORT_KEY])


def write_traces(traces: Iterable[ImageTrace]) -> bytes:
    """What became of every image and edit of a shard, one row an image."""
    return _write([_flat(trace.model_dump()) for trace in traces], TRACE_SCHEMA, {})


def read_traces(shard: bytes) -> list[ImageTrace]:
    """The traces of a shard, in the order written; RetoucheError if it is not such a shard."""
    return [ImageTrace.model_validate(_nested(row)) for row in _rows(read_trace_table(shard))]


def read_trace_table(shard: bytes) -> pa.Table:
    """The traces of a shard as its rows; RetoucheError if it is not such a shard."""
    return _table(shard, TRACE_SCHEMA)


def _flat(row: JsonObject) -> JsonObject:
    """The critique as two columns, and maps as sorted items: equal content, equal bytes."""
    critique = row.pop("critique") or {"description": None, "findings": None}
    row["critique_description"] = critique["description"]
    row["findings"] = critique["findings"]
    return {name: _sorted_maps(value) for name, value in row.items()}


def _sorted_maps(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _sorted_maps(inner) for key, inner in sorted(value.items())}
    if isinstance(value, list | tuple):
        return [_sorted_maps(inner) for inner in value]
    return value


def _nested(row: JsonObject) -> JsonObject:
    description, findings = row.pop("critique_description"), row.pop("findings")
    row["critique"] = None if description is None else {"description": description, "findings": findings}
    return row


def _write(rows: list[JsonObject], schema: pa.Schema, metadata: dict[bytes, bytes]) -> bytes:
    stamped = schema.with_metadata({_FORMAT_KEY: str(FORMAT_VERSION).encode(), **metadata})
    sink = pa.BufferOutputStream()
    pq.write_table(pa.Table.from_pylist(rows, schema=stamped), sink, compression="zstd")
    return bytes(sink.getvalue().to_pybytes())


def _table(shard: bytes, schema: pa.Schema) -> pa.Table:
    file = _open(shard)
    version = (file.schema_arrow.metadata or {}).get(_FORMAT_KEY, b"none").decode()
    if version != str(FORMAT_VERSION):
        raise RetoucheError(
            f"this shard has format {version}, and this Retouche reads {FORMAT_VERSION}: "
            "read it with the Retouche that wrote it, or curate again"
        )
    table = file.read(use_threads=False)  # of 64 rows: threads take longer than the reading
    if table.schema.names != schema.names:
        raise RetoucheError(f"this shard has the columns {table.schema.names}, not {schema.names}")
    return table.replace_schema_metadata(None)


def _rows(table: pa.Table) -> list[JsonObject]:
    rows: list[JsonObject] = table.to_pylist(maps_as_pydicts="strict")
    return rows


def _metadata(shard: bytes) -> dict[bytes, bytes]:
    return dict(_open(shard).schema_arrow.metadata or {})


def _open(shard: bytes) -> pq.ParquetFile:
    try:
        return pq.ParquetFile(pa.BufferReader(shard))
    except pa.ArrowInvalid as error:
        raise RetoucheError(f"this shard is not a Parquet file: {error}") from None
