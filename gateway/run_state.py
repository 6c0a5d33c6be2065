"""What a training run has come to, read from the store alone.

A run is finished, failed or cancelled as the marker beside its specification says; it is running once it has
logged something, and queued before.
"""

import asyncio
import json
from collections.abc import Iterable
from contextlib import suppress

from retouche.contract.runs import Artifact, Run, RunRecord, RunResult, RunState, TrainingMetrics
from retouche.errors import NotFound, RunNotFound
from retouche.store import ObjectStore, run_path
from retouche.tenancy import owned


class RunReader:
    """Reads runs."""

    def __init__(self, store: ObjectStore) -> None:
        self._store = store

    async def record(self, run_id: str) -> RunRecord:
        """The specification as accepted; RunNotFound if there is none."""
        try:
            return RunRecord.model_validate_json(await self._store.get(run_path(run_id, "spec.json")))
        except NotFound:
            raise _not_found(run_id) from None

    async def record_of(self, tenant: str, run_id: str) -> RunRecord:
        """The record of a tenant's own run; RunNotFound for any other."""
        record = await self.record(run_id)
        if record.tenant != tenant:
            raise _not_found(run_id)
        return record

    async def all(self) -> list[str]:
        """The identifiers of all runs of all tenants, the newest first."""
        return await self._newest_first(await self._store.folders("runs"))

    async def of(self, tenant: str) -> list[str]:
        """The identifiers of a tenant's runs, the newest first."""
        return await self._newest_first(await owned(self._store, tenant, "runs"))

    async def _newest_first(self, run_ids: Iterable[str]) -> list[str]:
        records = {}
        for run_id in run_ids:
            with suppress(RunNotFound):
                records[run_id] = await self.record(run_id)
        return sorted(records, key=lambda run_id: records[run_id].created_at, reverse=True)

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


def _not_found(run_id: str) -> RunNotFound:
    return RunNotFound(f"there is no run {run_id}; GET /v1/runs lists them")


def _state(finished: bool, cancelled: bool, failed: bool, logged: bool) -> RunState:
    if finished:
        return "finished"
    if cancelled:
        return "cancelled"
    if failed:
        return "failed"
    return "running" if logged else "queued"
