"""What became of everything that was submitted, read from the object store."""

import hashlib
import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

from bench.chaos.work import Work
from retouche.contract.jobs import ImageTrace
from retouche.pairs import read_pairs, read_traces
from retouche.store import ObjectStore, job_path, run_path


@dataclass
class Account:
    """Items are images of prompts. Each is paired, filtered out, or dead-lettered with its cause."""

    submitted: int = 0
    paired: int = 0
    filtered: int = 0
    dead_lettered: int = 0
    duplicated: int = 0
    causes: Counter[str] = field(default_factory=Counter)
    digest: str = ""
    run_digest: str = ""

    @property
    def lost(self) -> int:
        return self.submitted - self.paired - self.filtered - self.dead_lettered

    def made_the_same_as(self, other: "Account") -> bool:
        """The same pairs and weights, and no more given up: what else faults cost shows only there."""
        ours, theirs = (
            (each.filtered, each.dead_lettered, each.digest, each.run_digest) for each in (self, other)
        )
        return ours == theirs


async def account(store: ObjectStore, work: Work) -> Account:
    """The items of all jobs, the digest of their pairs, and that of the runs' weights."""
    total, pairs_hash, runs_hash = Account(), hashlib.sha256(), hashlib.sha256()
    for spec in work.jobs:
        total.submitted += len(spec.prompts or ()) * spec.images_per_prompt
        job_id = work.job_ids[spec]
        pairs = [pair for shard in await _shards(store, job_id, "shards") for pair in read_pairs(shard)]
        traces = [trace for shard in await _shards(store, job_id, "traces") for trace in read_traces(shard)]
        _count(total, Counter((pair.prompt_index, pair.image_index) for pair in pairs), traces)
        for pair in pairs:
            pairs_hash.update(json.dumps(pair.model_dump(mode="json"), sort_keys=True).encode())
    for run_spec in work.runs:
        weights = run_path(work.run_ids[run_spec], "artifacts/pytorch_lora_weights.safetensors")
        runs_hash.update(await store.get(weights) if await store.exists(weights) else b"none")
    total.digest, total.run_digest = pairs_hash.hexdigest(), runs_hash.hexdigest()
    return total


def _count(total: Account, paired: Counter[tuple[int, int]], traces: Sequence[ImageTrace]) -> None:
    """Every item once; what is there a second time is duplicated."""
    seen = Counter((trace.prompt_index, trace.image_index) for trace in traces)
    total.duplicated += sum(seen.values()) - len(seen) + sum(paired.values()) - len(paired)
    total.paired += len(paired)
    for trace in {(trace.prompt_index, trace.image_index): trace for trace in traces}.values():
        if (trace.prompt_index, trace.image_index) in paired:
            continue
        outcomes = [trace.dropped] if trace.dropped else [edit.outcome for edit in trace.edits]
        failed = [outcome for outcome in outcomes if outcome.endswith("_failed")]
        total.dead_lettered += bool(failed)
        total.filtered += not failed and "pair" not in outcomes  # a pair that is in no shard is lost
        if failed:
            errors = [trace.error, *(edit.error for edit in trace.edits)]
            total.causes[next((error for error in errors if error), failed[0])] += 1


async def _shards(store: ObjectStore, job_id: str, kind: str) -> list[bytes]:
    """The Parquet files of a job, in order."""
    paths = sorted([path async for path in store.paths(job_path(job_id, kind))])
    return [await store.get(path) for path in paths]
