"""Where a visitor is among a job's pairs."""

from dataclasses import dataclass

from retouche.client import AsyncRetouche
from retouche.contract.pair_search import FoundPair, PairQuery, PairSearch
from retouche.contract.reviews import Decision
from retouche.errors import BadRequest

PAGE = 24


@dataclass(frozen=True)
class Browsing:
    """A page of what was asked for, and which pair of it is open."""

    job: str
    query: PairQuery
    page: PairSearch
    place: int = 0  # on the page

    @property
    def open(self) -> FoundPair | None:
        return self.page.pairs[self.place] if self.page.pairs else None

    @property
    def number(self) -> int:
        """Of the open pair among all that were found, from 1 on."""
        return self.query.offset + self.place + 1 if self.page.pairs else 0


async def search(client: AsyncRetouche, job: str, query: PairQuery, place: int = 0) -> Browsing:
    """A page, with one of its pairs open."""
    page = await client.search_pairs(job, query)
    return Browsing(job, query, page, min(place, max(0, len(page.pairs) - 1)))


async def turned(client: AsyncRetouche, at: Browsing, by: int) -> Browsing:
    """So many pairs on, or back, over the pages' edges; where there is none, as it was."""
    number = at.query.offset + at.place + by
    if not 0 <= number < at.page.total:
        return at
    offset = number // PAGE * PAGE
    if offset == at.query.offset:
        return Browsing(at.job, at.query, at.page, number - offset)
    return await search(client, at.job, at.query.model_copy(update={"offset": offset}), number - offset)


async def decided(client: AsyncRetouche, at: Browsing, decision: Decision, reviewer: str) -> Browsing:
    """The open pair, decided; it stays where it is until the next search, even if that would not find it.

    Raises:
        BadRequest: nobody says who decides, or no pair is open.
    """
    if at.open is None:
        raise BadRequest("No pair is open. Choose a job with pairs, or ask for less.")
    if not reviewer.strip():
        raise BadRequest("Write your name first: a decision is recorded with who made it.")
    pair = at.open.pair
    review = await client.review(at.job, pair.id, decision, reviewer)
    now = None if decision == "withdraw" else review
    found = at.open.model_copy(update={"pair": pair.model_copy(update={"review": now})})
    pairs = [found if number == at.place else other for number, other in enumerate(at.page.pairs)]
    counts = dict(at.page.decided)
    if pair.review is not None:
        counts[pair.review.decision] -= 1
    if now is not None:
        counts[decision] = counts.get(decision, 0) + 1
    left = {kind: count for kind, count in counts.items() if count}
    page = at.page.model_copy(update={"pairs": pairs, "decided": left})
    return Browsing(at.job, at.query, page, at.place)


async def undone(client: AsyncRetouche, at: Browsing, reviewer: str) -> Browsing:
    """What was decided about the open pair before its last decision, as a newer one.

    Raises:
        BadRequest: nothing is decided about it.
    """
    if at.open is None or not (log := await client.reviews(at.job, at.open.pair.id)):
        raise BadRequest("Nothing is decided about this pair: there is nothing to undo.")
    return await decided(client, at, log[-2].decision if len(log) > 1 else "withdraw", reviewer)
