"""Going through a job's pairs: over the edges of pages, deciding, undoing."""

from collections.abc import Iterator

import pytest

from gateway.app import create_app
from retouche.client import AsyncRetouche, Retouche
from retouche.contract.jobs import CurationSpec
from retouche.contract.pair_search import PairQuery
from retouche.contract.reviews import Decision
from retouche.errors import BadRequest
from retouche.store import ObjectStore, run
from studio.browsing import PAGE, Browsing, decided, search, turned, undone
from tests.gateway.conftest import settings_for
from tests.gateway.shards import finish_shard
from tests.live import live

PAIRS = PAGE + 3


@pytest.fixture
def url(store: ObjectStore, redis_url: str) -> Iterator[str]:
    with live(create_app(settings_for(store.url, redis_url))) as url:
        yield url


@pytest.fixture
def job_id(url: str, store: ObjectStore) -> str:
    """A finished job with more pairs than a page has."""
    with Retouche(url) as client:
        job = client.submit(CurationSpec(prompts=("x",)))
    finish_shard(store, job.id, 0, PAIRS)
    return job.id


async def opened(client: AsyncRetouche, job_id: str) -> Browsing:
    return await search(client, job_id, PairQuery(limit=PAGE))


def test_the_next_pair_may_be_on_the_next_page(url: str, job_id: str) -> None:
    async def numbers() -> list[int]:
        async with AsyncRetouche(url) as client:
            at, seen = await opened(client, job_id), []
            for step in [1] * PAIRS + [-1] * PAIRS:
                at = await turned(client, at, step)
                seen.append(at.number)
                assert at.open is not None
                assert at.open.pair.id == f"0-{at.number - 1}"
            return seen

    there = [*range(2, PAIRS + 1), PAIRS]  # at the end it stays where it is
    assert run(numbers()) == [*there, *range(PAIRS - 1, 0, -1), 1]


def test_undoing_brings_back_what_was_decided_before(url: str, job_id: str) -> None:
    async def states() -> list[tuple[Decision | None, dict[Decision, int]]]:
        async with AsyncRetouche(url) as client:
            at, seen = await opened(client, job_id), []
            for decision in ("accept", "flip", None, None):
                if decision is None:
                    at = await undone(client, at, "Ada")
                else:
                    at = await decided(client, at, decision, "Ada")
                assert at.open is not None
                review = at.open.pair.review
                seen.append((review.decision if review else None, at.page.decided))
            assert (await opened(client, job_id)).page.decided == at.page.decided
            return seen

    assert run(states()) == [
        ("accept", {"accept": 1}),
        ("flip", {"flip": 1}),
        ("accept", {"accept": 1}),
        ("flip", {"flip": 1}),  # the undoing is undone
    ]


@pytest.mark.parametrize(("reviewer", "said"), [(" ", "Write your name first"), ("Ada", "nothing to undo")])
def test_what_cannot_be_done_is_said(url: str, job_id: str, reviewer: str, said: str) -> None:
    async def attempt() -> None:
        async with AsyncRetouche(url) as client:
            at = await opened(client, job_id)
            if reviewer.strip():
                await undone(client, at, reviewer)
            else:
                await decided(client, at, "accept", reviewer)

    with pytest.raises(BadRequest, match=said):
        run(attempt())
