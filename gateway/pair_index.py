"""A job's pairs as one Arrow table in memory: found, ordered and paged in milliseconds at 100,000 pairs."""

import asyncio
import logging
import time
from collections import Counter, OrderedDict
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import reduce
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from gateway.pair_words import WordIndex, index_words
from retouche.contract.pair_search import FoundPair, PairQuery, PairSearch
from retouche.contract.reviews import Decision, Review
from retouche.errors import BadRequest, RetoucheError
from retouche.pairs import PAIR_SCHEMA, pairs_of_table, read_pair_table, write_pair_table
from retouche.store import ObjectStore, job_path, shard_path

_log = logging.getLogger("retouche.gateway")

_JOBS_KEPT = 4
_READS_AT_ONCE = 32
_QUICK_SECONDS = 0.5
_REST = 10  # times as long as indexing a running job took, if not quick, before it is done again


@dataclass(frozen=True)
class PairIndex:
    """The pairs of some shards, in their order, and columns to search them by, row by row."""

    shards: tuple[int, ...]
    pairs: pa.Table
    rows: Any  # their numbers, 0 to the last
    words: WordIndex
    actions: Any
    margins: Mapping[str, Any]  # reward model: its raw margin; "" is over all reward models
    disagreement: Any

    def search(self, query: PairQuery, decisions: Mapping[str, Review]) -> PairSearch:
        """One page of the pairs that the query asks for."""
        rows = self._ordered(query, self._matching(query, decisions))
        page = rows.slice(query.offset, query.limit)
        found = zip(
            pairs_of_table(self.pairs.take(page)),
            self._margin(query).take(page).to_pylist(),
            self.disagreement.take(page).to_pylist(),
            strict=True,
        )
        return PairSearch(
            total=len(rows),
            pairs=[
                FoundPair(
                    pair=pair.model_copy(update={"review": decisions.get(pair.id)}),
                    margin=margin,
                    disagreement=disagreement,
                )
                for pair, margin, disagreement in found
            ],
            rewards=[name for name in self.margins if name],
            actions=sorted(pc.unique(self.actions).to_pylist()),
            decided=_counts(decisions),
        )

    def has(self, pair_id: str) -> bool:
        return bool(pc.any(pc.equal(self.pairs["id"], pair_id)).as_py())

    def _margin(self, query: PairQuery) -> Any:
        """The margin that the query speaks of."""
        name = query.reward or ""
        if name not in self.margins:
            known = ", ".join(filter(None, self.margins)) or "none yet"
            raise BadRequest(f"reward: {name} scored no pair of this job; its reward models are: {known}")
        return self.margins[name]

    def _matching(self, query: PairQuery, decisions: Mapping[str, Review]) -> Any:
        """A boolean for every row; None if every row matches."""
        margin = self._margin(query)
        parts = [
            pc.is_in(self.rows, value_set=self.words.rows_with(word)) for word in query.text.lower().split()
        ]
        if query.action:
            parts.append(pc.equal(self.actions, query.action))
        if query.min_margin is not None:
            parts.append(pc.greater_equal(margin, query.min_margin))
        if query.max_margin is not None:
            parts.append(pc.less_equal(margin, query.max_margin))
        if query.min_disagreement is not None:
            parts.append(pc.greater_equal(self.disagreement, query.min_disagreement))
        if query.decision != "any":
            parts.append(self._decided(query.decision, decisions))
        return reduce(pc.and_, parts) if parts else None

    def _decided(self, decision: str, decisions: Mapping[str, Review]) -> Any:
        wanted = [pair for pair, found in decisions.items() if decision in ("none", found.decision)]
        among = pc.is_in(self.pairs["id"], value_set=pa.array(wanted, pa.string()))
        return pc.invert(among) if decision == "none" else among

    def _ordered(self, query: PairQuery, matching: Any) -> Any:
        """The numbers of the matching rows, in the query's order."""
        rows = self.rows if matching is None else pc.indices_nonzero(matching)
        if query.order == "curated":
            return rows[::-1] if query.descending else rows
        by = self._margin(query) if query.order == "margin" else self.disagreement
        direction = "descending" if query.descending else "ascending"
        return rows.take(pc.array_sort_indices(by.take(rows), order=direction))


class PairIndexes:
    """The indexes of the jobs looked at last; a shard is read once and never changes.

    All pairs of a job that is complete are kept as one file besides, so that a gateway that has just started
    need not read every shard again. The shards are the truth: that file may be deleted at any time.
    """

    def __init__(self, store: ObjectStore) -> None:
        self._store = store
        self._known: OrderedDict[str, PairIndex] = OrderedDict()
        self._next: dict[str, float] = {}  # when a job that has grown may be indexed again
        self._busy: dict[str, asyncio.Lock] = {}

    def complete(self, job_id: str, shards: int) -> PairIndex | None:
        """The index of a job with so many shards, if it holds them all: then it will never change."""
        known = self._known.get(job_id)
        return known if known is not None and len(known.shards) == shards else None

    async def index(
        self, job_id: str, finished: Sequence[int], shards: int, *, at_once: bool = False
    ) -> PairIndex:
        """The index of a job's finished shards, of so many in all.

        What a running job has finished since may not be in it yet, unless it is wanted `at_once`.
        """
        async with self._busy.setdefault(job_id, asyncio.Lock()):
            known = self._known.get(job_id)
            rested = at_once or time.monotonic() > self._next.get(job_id, 0.0)
            # Who has waited here may know of fewer shards than were indexed meanwhile.
            if known is None or (rested and not {*finished} <= {*known.shards}):
                began = time.monotonic()
                known = await (
                    self._whole(job_id, known, finished)
                    if len(finished) == shards
                    else self._grown(job_id, known, finished)
                )
                self._known[job_id] = known
                took = time.monotonic() - began
                self._next[job_id] = time.monotonic() + (_REST * took if took > _QUICK_SECONDS else 0)
            self._known.move_to_end(job_id)
            if len(self._known) > _JOBS_KEPT:
                self._known.popitem(last=False)
            return known

    async def _whole(self, job_id: str, known: PairIndex | None, shards: Sequence[int]) -> PairIndex:
        """The index of a complete job: from the one file with its pairs, which is written if need be."""
        path = job_path(job_id, "gathered.parquet")
        with suppress(RetoucheError):  # not there, or of another version
            pairs = await asyncio.to_thread(read_pair_table, await self._store.get(path))
            return await asyncio.to_thread(make_index, tuple(shards), [pairs])
        index = await self._grown(job_id, known, shards)
        try:
            await self._store.put(path, await asyncio.to_thread(write_pair_table, index.pairs))
        except RetoucheError as error:
            _log.warning("the pairs of %s could not be kept for the next start: %s", job_id, error)
        return index

    async def _grown(self, job_id: str, known: PairIndex | None, finished: Sequence[int]) -> PairIndex:
        """What was known, and the shards that came since."""
        before = known.shards if known else ()
        fresh = sorted({*finished} - {*before})
        tables = [known.pairs] if known else []
        for begin in range(0, len(fresh), _READS_AT_ONCE):
            batch = fresh[begin : begin + _READS_AT_ONCE]
            contents = await asyncio.gather(
                *(self._store.get(shard_path(job_id, "shards", shard)) for shard in batch)
            )
            tables += await asyncio.to_thread(lambda part: [read_pair_table(one) for one in part], contents)
        return await asyncio.to_thread(make_index, tuple(sorted({*before, *fresh})), tables)


def make_index(shards: tuple[int, ...], tables: Sequence[pa.Table]) -> PairIndex:
    """The index of some shards' pairs, in the order of their prompts and images."""
    pairs = pa.concat_tables(tables) if tables else PAIR_SCHEMA.empty_table()
    pairs = pairs.sort_by([("prompt_index", "ascending"), ("image_index", "ascending")]).combine_chunks()
    raw = _raw_margins(pairs)
    standard = [_standardised(margin) for margin in raw.values()]
    if standard:
        mean = pc.divide(reduce(pc.add, standard), float(len(standard)))
        disagreement = pc.subtract(pc.max_element_wise(*standard), pc.min_element_wise(*standard))
    else:
        mean = disagreement = pa.array([0.0] * len(pairs), pa.float64())
    actions = pc.struct_field(_column(pairs, "instruction"), "action")
    return PairIndex(
        shards,
        pairs,
        rows=pa.array(range(len(pairs)), pa.uint64()),
        words=index_words(_searched(pairs)),
        actions=actions,
        margins={"": mean, **raw},
        disagreement=disagreement,
    )


def _raw_margins(pairs: pa.Table) -> dict[str, Any]:
    """For each reward model the difference of its scores; 0 where it has no score."""
    chosen, rejected = _column(pairs, "chosen_scores"), _column(pairs, "rejected_scores")
    return {
        name: pc.fill_null(
            pc.subtract(
                pc.map_lookup(chosen, query_key=name, occurrence="first"),
                pc.map_lookup(rejected, query_key=name, occurrence="first"),
            ),
            0.0,
        )
        for name in sorted(pc.unique(chosen.keys).to_pylist())
    }


def _standardised(margin: Any) -> Any:
    """Divided by its root mean square."""
    square = pc.mean(pc.multiply(margin, margin)).as_py() or 1.0
    return pc.divide(margin, square**0.5)


def _searched(pairs: pa.Table) -> Any:
    """Prompt, instruction and critique of each pair, in lower case."""
    instruction, findings = _column(pairs, "instruction"), _column(pairs, "findings")
    said = [pc.struct_field(findings.values, name) for name in ("aspect", "subject", "problem")]
    each = pa.ListArray.from_arrays(findings.offsets, pc.binary_join_element_wise(*said, " "))
    parts = [
        _column(pairs, "prompt"),
        pc.struct_field(instruction, "text"),
        _column(pairs, "critique_description"),
        pc.binary_join(each, " "),
    ]
    return pc.utf8_lower(pc.binary_join_element_wise(*parts, " ", null_handling="skip"))


def _column(pairs: pa.Table, name: str) -> Any:
    return pairs[name].combine_chunks()


def _counts(decisions: Mapping[str, Review]) -> dict[Decision, int]:
    return dict(Counter(review.decision for review in decisions.values()))
