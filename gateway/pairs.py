"""What came out of a job: pairs and traces, as pages, NDJSON or Parquet, in the order of the shards."""

import asyncio
import io
from collections.abc import AsyncIterator, Callable
from typing import Annotated, Literal, TypeVar

import pyarrow as pa
import pyarrow.parquet as pq
from fastapi import APIRouter, Query, Request, Response
from fastapi.responses import StreamingResponse
from pydantic import BaseModel

from gateway.callers import READ
from gateway.job_state import JobReader
from gateway.ownership import OwnJob
from retouche.contract.jobs import PairPage, TracePage
from retouche.errors import NotFound
from retouche.pairs import PAIR_SCHEMA, TRACE_SCHEMA, read_pairs, read_traces
from retouche.store import ObjectStore, shard_path

router = APIRouter(tags=["pairs"])

RowT = TypeVar("RowT", bound=BaseModel)

Format = Literal["json", "ndjson", "parquet"]
Limit = Annotated[int, Query(ge=1, le=1000)]
Cursor = Annotated[
    str | None, Query(pattern=r"^[0-9]{1,9}:[0-9]{1,9}$", description="the last page's `next_cursor`")
]


@router.get("/v1/jobs/{job_id}/pairs", response_model=PairPage, dependencies=[READ])
async def pairs(
    job_id: OwnJob, request: Request, format: Format = "json", limit: Limit = 100, cursor: Cursor = None
) -> PairPage | Response:
    """The pairs of the finished shards: a page, or all of them as NDJSON or one Parquet file."""
    shards = await _finished(request, job_id)
    if format == "json":
        rows, following = await _page(request, job_id, "shards", shards, read_pairs, limit, cursor)
        return PairPage(pairs=rows, next_cursor=following)
    return _download(request, job_id, "shards", shards, read_pairs, PAIR_SCHEMA, format)


@router.get("/v1/jobs/{job_id}/traces", response_model=TracePage, dependencies=[READ])
async def traces(
    job_id: OwnJob, request: Request, format: Format = "json", limit: Limit = 100, cursor: Cursor = None
) -> TracePage | Response:
    """Every image of the finished shards and what became of it, dropped ones and their reasons included."""
    shards = await _finished(request, job_id)
    if format == "json":
        rows, following = await _page(request, job_id, "traces", shards, read_traces, limit, cursor)
        return TracePage(traces=rows, next_cursor=following)
    return _download(request, job_id, "traces", shards, read_traces, TRACE_SCHEMA, format)


async def _finished(request: Request, job_id: str) -> list[int]:
    reader: JobReader = request.app.state.reader
    return await reader.finished(job_id)


async def _page(
    request: Request,
    job_id: str,
    kind: str,
    shards: list[int],
    read: Callable[[bytes], list[RowT]],
    limit: int,
    cursor: str | None,
) -> tuple[list[RowT], str | None]:
    """Up to `limit` rows from `cursor`, "shard:row", on; and where the next page begins."""
    first, skip = (int(part) for part in (cursor or "0:0").split(":"))
    rows: list[RowT] = []
    for shard in (shard for shard in shards if shard >= first):
        found = await asyncio.to_thread(read, await _shard(request, job_id, kind, shard))
        begin = skip if shard == first else 0
        taken = found[begin : begin + limit - len(rows)]
        rows += taken
        if begin + len(taken) < len(found):
            return rows, f"{shard}:{begin + len(taken)}"
        if len(rows) == limit and shard != shards[-1]:
            return rows, f"{shard + 1}:0"
    return rows, None


def _download(
    request: Request,
    job_id: str,
    kind: str,
    shards: list[int],
    read: Callable[[bytes], list[RowT]],
    schema: pa.Schema,
    format: Format,
) -> Response:
    name = "pairs" if kind == "shards" else kind
    headers = {"content-disposition": f'attachment; filename="{job_id}-{name}.{format}"'}
    if format == "ndjson":
        lines = _ndjson(request, job_id, kind, shards, read)
        return StreamingResponse(lines, media_type="application/x-ndjson", headers=headers)
    table = _parquet(request, job_id, kind, shards, schema)
    return StreamingResponse(table, media_type="application/vnd.apache.parquet", headers=headers)


async def _ndjson(
    request: Request, job_id: str, kind: str, shards: list[int], read: Callable[[bytes], list[RowT]]
) -> AsyncIterator[bytes]:
    for shard in shards:
        for row in await asyncio.to_thread(read, await _shard(request, job_id, kind, shard)):
            yield row.model_dump_json().encode() + b"\n"


async def _parquet(
    request: Request, job_id: str, kind: str, shards: list[int], schema: pa.Schema
) -> AsyncIterator[bytes]:
    """One file of all shards, a row group each, written as it is sent."""
    sink = io.BytesIO()
    with pq.ParquetWriter(sink, schema, compression="zstd") as writer:
        for shard in shards:
            table = pq.read_table(io.BytesIO(await _shard(request, job_id, kind, shard)))
            writer.write_table(table.replace_schema_metadata(None))
            yield sink.getvalue()
            sink.seek(0)
            sink.truncate()
    yield sink.getvalue()


async def _shard(request: Request, job_id: str, kind: str, shard: int) -> bytes:
    store: ObjectStore = request.app.state.store
    try:
        return await store.get(shard_path(job_id, kind, shard))
    except NotFound as error:
        raise NotFound(f"shard {shard} of {job_id} has lost its {kind}: {error.detail}") from error
