"""A run in the object store: its specification, its log, its checkpoints, how it ended."""

import json
import shutil
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from redis import Redis
from redis.exceptions import RedisError

from retouche.contract.runs import RunRecord, RunResult, TrainingMetrics
from retouche.coordination import PROGRESSED_SECONDS, SHARDS_STREAM, events_channel, progressed_key
from retouche.errors import NotFound, StoreUnavailable
from retouche.store import ObjectStore, run, run_has_ended, run_path
from trainer import checkpoints

_WATCH_SECONDS = 1.0


@dataclass
class Remote:
    """What the training process knows of its run beyond its own folder."""

    store: ObjectStore
    redis: "Redis"
    run_id: str
    _log: list[TrainingMetrics] = field(default_factory=list)

    def record(self) -> RunRecord:
        """The specification as accepted."""
        return RunRecord.model_validate_json(run(self.store.get(self._path("spec.json"))))

    def ended(self) -> bool:
        """Is there nothing to do: finished, failed or cancelled?"""
        return run(run_has_ended(self.store, self.run_id))

    def finished(self) -> bool:
        """Has it trained to its end, and is all that it gives in the store?"""
        return run(self.store.exists(self._path("finished.json")))

    def fetch_checkpoints(self, folder: Path) -> None:
        """Bring the newest checkpoint of the store into `folder`, unless it has one as new.

        Those of `folder` go where the run in the store has not come as far: they outlived another store.
        """
        steps = run(self.store.folders(self._path("checkpoints")))
        states = {step: self._path(f"checkpoints/{step}/state.json") for step in steps}
        whole = [step for step, state in states.items() if run(self.store.exists(state))]
        reached = max([int(step) for step in whole] + [metrics.step for metrics in self._logged()], default=0)
        if checkpoints.last_step(folder) > reached:
            shutil.rmtree(folder / "checkpoints")
        if not whole or checkpoints.last_step(folder) >= int(whole[-1]):
            return
        aside = folder / "checkpoints" / f"{whole[-1]}.writing"
        aside.mkdir(parents=True, exist_ok=True)
        run(self._fetch(f"checkpoints/{whole[-1]}", aside))
        aside.rename(folder / "checkpoints" / whole[-1])

    def keep_checkpoint(self, checkpoint: Path) -> None:
        """Put a checkpoint into the store, its state last, which makes it whole; drop the oldest."""
        files = sorted(checkpoint.iterdir(), key=lambda file: file.name == "state.json")
        for file in files:
            run(self.store.put_file(self._path(f"checkpoints/{checkpoint.name}/{file.name}"), file))
        older = [
            step for step in run(self.store.folders(self._path("checkpoints"))) if step < checkpoint.name
        ]
        for step in older[: -checkpoints.KEPT + 1 or None]:
            run(self._drop(f"checkpoints/{step}"))
        with suppress(RedisError):
            self.redis.set(progressed_key(self.run_id), checkpoint.name, ex=PROGRESSED_SECONDS)

    def resume_log(self, step: int) -> None:
        """Go on with the log after `step`; what was logged beyond is logged again."""
        self._log = [metrics for metrics in self._logged() if metrics.step <= step]

    def _logged(self) -> list[TrainingMetrics]:
        """What the log in the store says."""
        try:
            lines = run(self.store.get(self._path("metrics.jsonl"))).splitlines()
        except NotFound:
            return []
        return [TrainingMetrics.model_validate_json(line) for line in lines]

    @property
    def last_logged(self) -> TrainingMetrics | None:
        return self._log[-1] if self._log else None

    def log(self, metrics: TrainingMetrics) -> None:
        """Add to the log, and tell those who follow."""
        self._log.append(metrics)
        content = "".join(f"{entry.model_dump_json()}\n" for entry in self._log)
        run(self.store.put(self._path("metrics.jsonl"), content.encode()))
        self.announce("progress")

    @contextmanager
    def watching(self, stop: threading.Event) -> Iterator[Callable[[], bool]]:
        """Says at once whether to stop: `stop` is set, or the run cancelled."""
        done = threading.Event()

        def watch() -> None:
            while not done.wait(_WATCH_SECONDS):
                with suppress(StoreUnavailable):  # it is asked again
                    if run(self.store.exists(self._path("cancelled"))):
                        stop.set()

        thread = threading.Thread(target=watch, name="cancelled?", daemon=True)
        thread.start()
        try:
            yield stop.is_set
        finally:
            done.set()
            thread.join()

    def finish(self, folders: dict[str, Path], result: RunResult) -> None:
        """Put the files of `folders` under artifacts/<name>, then mark the run as finished."""
        for name, folder in folders.items():
            for file in sorted(path for path in folder.rglob("*") if path.is_file()):
                place = "/".join(part for part in (name, str(file.relative_to(folder))) if part)
                run(self.store.put_file(self._path(f"artifacts/{place}"), file))
        run(self.store.create(self._path("finished.json"), result.model_dump_json().encode()))
        self._leave("finished")

    def cancelled(self) -> None:
        """Say that the run has stopped because it was told to."""
        self._leave("cancelled")

    def failed(self, error: str) -> None:
        """Mark the run as failed, with the reason."""
        run(self.store.put(self._path("failed.json"), json.dumps({"error": error}).encode()))
        self._leave("failed")

    def _leave(self, cause: str) -> None:
        """Tell how it ended. The consumer group, where there was one, has no use any more: a retried run
        knows the shards of its checkpoint, and a new group gives it all others."""
        with suppress(RedisError):
            self.redis.xgroup_destroy(SHARDS_STREAM, self.run_id)
        self.announce(cause)

    def announce(self, cause: str) -> None:
        """Tell those who follow; without Redis they find out by polling."""
        with suppress(RedisError):
            self.redis.publish(events_channel(self.run_id), cause)

    async def _fetch(self, prefix: str, folder: Path) -> None:
        async for path in self.store.paths(self._path(prefix)):
            (folder / path.rsplit("/", 1)[-1]).write_bytes(await self.store.get(path))

    async def _drop(self, prefix: str) -> None:
        for path in [path async for path in self.store.paths(self._path(prefix))]:
            await self.store.delete(path)

    def _path(self, name: str) -> str:
        return run_path(self.run_id, name)
