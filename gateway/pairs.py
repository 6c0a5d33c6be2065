"""What came out of a job: pairs and traces, as pages, NDJSON or Parquet, in the order of the shards."""

import asyncio
import io
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from typing import Annotated, Any, Literal, TypeVar

import pyarrow as pa
import pyarrow.parquet as pq
from fastapi import APIRouter, Query, Request, Response
from fastapi.responses import StreamingResponse
from pydantic import BaseModel

from gateway.callers import READ
from gateway.job_state import JobReader
from gateway.ownership import OwnJob
from retouche.contract.jobs import PairPage, PreferencePair, TracePage
from retouche.contract.reviews import Reviewed
from retouche.errors import NotFound
from retouche.pairs import (
    PAIR_SCHEMA,
    REVIEWED_SCHEMA,
    TRACE_SCHEMA,
    read_pair_table,
    read_pairs,
    read_trace_table,
    read_traces,
    reviewed_table,
)
from retouche.reviews import decided
from retouche.store import ObjectStore, shard_path

router = APIRouter(tags=["pairs"])

RowT = TypeVar("RowT", bound=BaseModel)

MOST_SHARDS_READ = 100  # for a page, which is to come within seconds

NDJSON, PARQUET = "application/x-ndjson", "application/vnd.apache.parquet"
_DOWNLOADS: dict[int | str, dict[str, Any]] = {
    200: {
        "content": {
            NDJSON: {"schema": {"type": "string", "description": "one row of a page a line"}},
            PARQUET: {"schema": {"type": "string", "format": "binary"}},
        }
    }
}

Format = Literal["json", "ndjson", "parquet"]
Limit = Annotated[int, Query(ge=1, le=1000)]
Cursor = Annotated[
    str | None, Query(pattern=r"^[0-9]{1,9}:[0-9]{1,9}$", description="the last page's `next_cursor`")
]


@router.get("/v1/jobs/{job_id}/pairs", response_model=PairPage, dependencies=[READ], responses=_DOWNLOADS)
async def pairs(
    job_id: OwnJob,
    request: Request,
    format: Format = "json",
    limit: Limit = 100,
    cursor: Cursor = None,
    reviewed: Reviewed = "all",
) -> PairPage | Response:
    """The pairs of the finished shards: a page, or all of them as NDJSON or one Parquet file.

    `reviewed` honours what people decided: `not_rejected` leaves out what they rejected, `only` all that they
    did not accept or flip. A flipped pair then has its images swapped, and says so in `review`.

    Pages of a job under way show what is finished when each is read, and may pass over what is committed in
    between; of a finished job they are complete and stable.
    """
    shards = await _finished(request, job_id)
    decisions = await request.app.state.decisions.decisions(job_id) if reviewed != "all" else {}

    def read(shard: bytes) -> list[PreferencePair | None]:
        return [decided(pair, reviewed, decisions) for pair in read_pairs(shard)]

    if format == "json":
        rows, following = await _page(request, job_id, "shards", shards, read, limit, cursor)
        return PairPage(pairs=rows, next_cursor=following)
    if reviewed == "all":
        return _download(request, job_id, "shards", shards, read, PAIR_SCHEMA, read_pair_table, format)

    def table(shard: bytes) -> pa.Table:
        return reviewed_table(pair for pair in read(shard) if pair is not None)

    return _download(request, job_id, "shards", shards, read, REVIEWED_SCHEMA, table, format)


@router.get("/v1/jobs/{job_id}/traces", response_model=TracePage, dependencies=[READ], responses=_DOWNLOADS)
async def traces(
    job_id: OwnJob, request: Request, format: Format = "json", limit: Limit = 100, cursor: Cursor = None
) -> TracePage | Response:
    """Every image of the finished shards and what became of it, dropped ones and their reasons included.

    Pages of a job under way show what is finished when each is read, and may pass over what is committed in
    between; of a finished job they are complete and stable.
    """
    shards = await _finished(request, job_id)
    if format == "json":
        rows, following = await _page(request, job_id, "traces", shards, read_traces, limit, cursor)
        return TracePage(traces=rows, next_cursor=following)
    return _download(request, job_id, "traces", shards, read_traces, TRACE_SCHEMA, read_trace_table, format)


async def _finished(request: Request, job_id: str) -> list[int]:
    reader: JobReader = request.app.state.reader
    return await reader.finished(job_id)


async def _page(
    request: Request,
    job_id: str,
    kind: str,
    shards: list[int],
    read: Callable[[bytes], Sequence[RowT | None]],
    limit: int,
    cursor: str | None,
) -> tuple[list[RowT], str | None]:
    """Up to `limit` rows from `cursor`, "shard:row", on; and where the next page begins. None is no row.

    Fewer rows where those that are wanted are rare: the next page looks on.
    """
    first, skip = (int(part) for part in (cursor or "0:0").split(":"))
    rows: list[RowT] = []
    following = [shard for shard in shards if shard >= first]
    for shard in following[:MOST_SHARDS_READ]:
        found = await asyncio.to_thread(read, await _shard(request, job_id, kind, shard))
        for number in range(skip if shard == first else 0, len(found)):
            if len(rows) == limit:
                return rows, f"{shard}:{number}"
            if (row := found[number]) is not None:
                rows.append(row)
        if len(rows) == limit and shard != shards[-1]:
            return rows, f"{shard + 1}:0"
    return rows, f"{following[MOST_SHARDS_READ]}:0" if len(following) > MOST_SHARDS_READ else None


def _download(
    request: Request,
    job_id: str,
    kind: str,
    shards: list[int],
    read: Callable[[bytes], Sequence[RowT | None]],
    schema: pa.Schema,
    table: Callable[[bytes], pa.Table],
    format: Format,
) -> Response:
    name = "pairs" if kind == "shards" else kind
    headers = {"content-disposition": f'attachment; filename="{job_id}-{name}.{format}"'}
    contents = (_shard(request, job_id, kind, shard) for shard in shards)
    if format == "ndjson":
        lines = _ndjson(contents, read)
        return StreamingResponse(lines, media_type=NDJSON, headers=headers)
    parquet = _parquet(contents, table, schema)
    return StreamingResponse(parquet, media_type=PARQUET, headers=headers)


async def _ndjson(
    shards: Iterable[Awaitable[bytes]], read: Callable[[bytes], Sequence[RowT | None]]
) -> AsyncIterator[bytes]:
    for shard in shards:
        for row in await asyncio.to_thread(read, await shard):
            if row is not None:
                yield row.model_dump_json().encode() + b"\n"


async def _parquet(
    shards: Iterable[Awaitable[bytes]], table: Callable[[bytes], pa.Table], schema: pa.Schema
) -> AsyncIterator[bytes]:
    """One file of all shards, a row group each, written as it is sent."""
    sink = io.BytesIO()
    with pq.ParquetWriter(sink, schema, compression="zstd") as writer:
        for shard in shards:
            writer.write_table(await asyncio.to_thread(table, await shard))
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
