"""Look for pairs among many, and decide about them."""

import asyncio
from typing import Annotated

from fastapi import APIRouter, Path, Query, Request

from gateway.callers import CURATE, READ
from gateway.decisions import DecisionReader
from gateway.job_state import JobReader
from gateway.ownership import OwnJob
from gateway.pair_index import PairIndex, PairIndexes
from retouche.contract.pair_search import PairQuery, PairSearch
from retouche.contract.reviews import PairId, Review, ReviewRequest
from retouche.errors import NotFound
from retouche.reviews import record_review

router = APIRouter(tags=["pairs"])

PairPath = Annotated[PairId, Path()]


@router.get("/v1/jobs/{job_id}/pairs/search", dependencies=[READ])
async def search(job_id: OwnJob, request: Request, query: Annotated[PairQuery, Query()]) -> PairSearch:
    """A page of the pairs of a job's finished shards that a query asks for, in its order.

    Pages of a job under way show what was indexed last when each is read, and may pass over or repeat pairs
    when more is committed in between; soon after it is finished they are complete and stable, those of a
    `decision` for as long as nobody decides.
    """
    index = await _index(request, job_id)
    decisions = await _decisions(request).decisions(job_id)
    return await asyncio.to_thread(index.search, query, decisions)


@router.post("/v1/jobs/{job_id}/pairs/{pair_id}/reviews", status_code=201, dependencies=[CURATE])
async def review(job_id: OwnJob, pair_id: PairPath, wanted: ReviewRequest, request: Request) -> Review:
    """Accept, reject or flip a pair, or withdraw that: the newest decision counts, and all are kept."""
    if not await _has(request, job_id, pair_id):
        raise NotFound(f"job {job_id} has no pair {pair_id}; GET /v1/jobs/{job_id}/pairs lists them")
    store = request.app.state.store
    return await record_review(store, job_id, pair_id, wanted.decision, wanted.reviewer)


@router.get("/v1/jobs/{job_id}/reviews", dependencies=[READ])
async def reviews(
    job_id: OwnJob, request: Request, pair: Annotated[PairId | None, Query()] = None
) -> list[Review]:
    """Every decision about a job's pairs, or about one of them, the oldest first."""
    log = await _decisions(request).log(job_id)
    return [found for found in log if pair in (None, found.pair)]


async def _has(request: Request, job_id: str, pair_id: str) -> bool:
    """Whether a finished shard has the pair, also one that finished a moment ago: its pairs are listed."""
    if (await _index(request, job_id)).has(pair_id):
        return True
    return (await _index(request, job_id, at_once=True)).has(pair_id)


async def _index(request: Request, job_id: str, *, at_once: bool = False) -> PairIndex:
    reader: JobReader = request.app.state.reader
    indexes: PairIndexes = request.app.state.indexes
    shards = (await reader.record(job_id)).shards
    if (complete := indexes.complete(job_id, shards)) is not None:
        return complete
    return await indexes.index(job_id, await reader.finished(job_id), shards, at_once=at_once)


def _decisions(request: Request) -> DecisionReader:
    decisions: DecisionReader = request.app.state.decisions
    return decisions
