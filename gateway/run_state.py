"""What a training run has come to, read from the store alone.

A run is finished, failed or cancelled as the marker beside its specification says; it is running once it has
logged something, and queued before.
"""

import asyncio
import json

from gateway.records import RecordReader
from retouche.contract.runs import Artifact, Run, RunRecord, RunResult, RunState, TrainingMetrics
from retouche.errors import NotFound, RunNotFound
from retouche.store import RUN_ENDS, ObjectStore, run_path


class RunReader(RecordReader[RunRecord]):
    """Reads runs."""

    def __init__(self, store: ObjectStore) -> None:
        super().__init__(store, "runs", RunRecord.model_validate_json, RunNotFound)
        self._finished: set[str] = set()

    async def ended(self, run_id: str) -> bool:
        """Whether it is finished, failed or cancelled; RunNotFound if there is none."""
        await self.record(run_id)
        if run_id in self._finished:
            return True
        finished, *others = await asyncio.gather(
            *(self._store.exists(run_path(run_id, marker)) for marker in RUN_ENDS)
        )
        if finished:
            self._finished.add(run_id)  # for ever: nobody has to look again
        return finished or any(others)

    async def run(self, run_id: str) -> Run:
        """The run as the API shows it; RunNotFound if there is none."""
        record = await self.record(run_id)
        finished, failed, cancelled, logged, artifacts = await asyncio.gather(
            self._content(run_id, "finished.json"),
            self._content(run_id, "failed.json"),
            self._store.exists(run_path(run_id, "cancelled")),
            self._content(run_id, "metrics.jsonl"),
            self.artifacts(run_id),
        )
        metrics = TrainingMetrics.model_validate_json(logged.splitlines()[-1]) if logged else None
        return Run(
            id=run_id,
            state=_state(finished is not None, cancelled, failed is not None, metrics is not None),
            created_at=record.created_at,
            spec=record.spec,
            step=metrics.step if metrics else 0,
            metrics=metrics,
            artifacts=artifacts,
            result=RunResult.model_validate_json(finished) if finished else None,
            error=json.loads(failed)["error"] if failed else None,
        )

    async def artifacts(self, run_id: str) -> list[Artifact]:
        """The files that a run has made, by name."""
        folder = run_path(run_id, "artifacts")
        paths = sorted([path async for path in self._store.paths(folder)])
        sizes = await asyncio.gather(*(self._store.size(path) for path in paths))
        return [
            Artifact(name=path.removeprefix(f"{folder}/"), bytes=size)
            for path, size in zip(paths, sizes, strict=True)
        ]

    async def _content(self, run_id: str, name: str) -> bytes | None:
        try:
            return await self._store.get(run_path(run_id, name))
        except NotFound:
            return None


def _state(finished: bool, cancelled: bool, failed: bool, logged: bool) -> RunState:
    if finished:
        return "finished"
    if cancelled:
        return "cancelled"
    if failed:
        return "failed"
    return "running" if logged else "queued"
