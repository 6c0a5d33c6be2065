"""The client of the gateway for code without an event loop: the asynchronous one, run in a thread."""

import asyncio
import threading
from collections.abc import AsyncIterator, Collection, Coroutine, Iterator
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar

import httpx2

from retouche.client.gateway import DEFAULT_URL, RECONNECTIONS, AsyncRetouche, FileFormat
from retouche.contract.evaluation import Evaluation
from retouche.contract.jobs import (
    CurationSpec,
    ImageInfo,
    ImageTrace,
    Job,
    JobEvent,
    PreferencePair,
    PromptSetInfo,
)
from retouche.contract.keys import KeyId, KeyInfo, NewKey, Scope
from retouche.contract.overview import Overview
from retouche.contract.pair_search import PairQuery, PairSearch
from retouche.contract.profiles import DeployedProfile
from retouche.contract.recovery import Recovered
from retouche.contract.reviews import Decision, Review, Reviewed
from retouche.contract.runs import Run, RunEvent, RunSpec, TrainingMetrics
from retouche.contract.services import ServiceStatus
from retouche.contract.stages import (
    CritiqueRequest,
    CritiqueResponse,
    DistanceRequest,
    DistanceResponse,
    EditRequest,
    EditResponse,
    GenerateRequest,
    GenerateResponse,
    InstructRequest,
    InstructResponse,
    RewardRequest,
    RewardResponse,
)
from retouche.intake.images import Wanted
from retouche.intake.rows import Skipped

T = TypeVar("T")


class Retouche:
    """Talks to a gateway. Every method is AsyncRetouche's or its `stages`', and raises what that one does."""

    def __init__(
        self,
        url: str = DEFAULT_URL,
        *,
        api_key: str | None = None,
        timeout_seconds: float = 120.0,
        reconnections: int = RECONNECTIONS,
        transport: httpx2.AsyncBaseTransport | None = None,
    ) -> None:
        self._client = AsyncRetouche(
            url,
            api_key=api_key,
            timeout_seconds=timeout_seconds,
            reconnections=reconnections,
            transport=transport,
        )
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="retouche", daemon=True)
        self._thread.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close every connection, and what is iterated over; a second time does nothing."""
        if self._loop.is_closed():
            return
        self._wait(self._loop.shutdown_asyncgens())
        self._wait(self._client.close())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def services(self) -> dict[str, ServiceStatus]:
        return self._wait(self._client.services())

    def profiles(self) -> list[DeployedProfile]:
        return self._wait(self._client.profiles())

    def overview(self) -> Overview:
        return self._wait(self._client.overview())

    def pinned(self, spec: CurationSpec, *, starting_images: bool = False) -> CurationSpec | None:
        return self._wait(self._client.pinned(spec, starting_images=starting_images))

    def upload_image(self, image: bytes | Path) -> ImageInfo:
        return self._wait(self._client.upload_image(image))

    def image(self, reference: str) -> bytes:
        return self._wait(self._client.image(reference))

    def create_key(self, tenant: str, scopes: Collection[Scope]) -> NewKey:
        return self._wait(self._client.create_key(tenant, scopes))

    def keys(self) -> list[KeyInfo]:
        return self._wait(self._client.keys())

    def revoke_key(self, key_id: KeyId) -> None:
        self._wait(self._client.revoke_key(key_id))

    def upload_prompts(
        self, source: Path | str, *, column: str | None = None, skipped: Skipped | None = None
    ) -> PromptSetInfo:
        return self._wait(self._client.upload_prompts(source, column=column, skipped=skipped))

    def upload_images(
        self, source: Path | str, wanted: Wanted | None = None, *, skipped: Skipped | None = None
    ) -> PromptSetInfo:
        return self._wait(self._client.upload_images(source, wanted, skipped=skipped))

    def submit(self, spec: CurationSpec, *, idempotency_key: str | None = None) -> Job:
        return self._wait(self._client.submit(spec, idempotency_key=idempotency_key))

    def job(self, job_id: str) -> Job:
        return self._wait(self._client.job(job_id))

    def jobs(self) -> Iterator[Job]:
        return self._each(self._client.jobs())

    def cancel(self, job_id: str) -> Job:
        return self._wait(self._client.cancel(job_id))

    def retry(self, job_id: str) -> Job:
        return self._wait(self._client.retry(job_id))

    def recover(self) -> Recovered:
        return self._wait(self._client.recover())

    def events(self, job_id: str) -> Iterator[JobEvent]:
        return self._each(self._client.events(job_id))

    def wait(self, job_id: str) -> Job:
        return self._wait(self._client.wait(job_id))

    def pairs(self, job_id: str, reviewed: Reviewed = "all") -> Iterator[PreferencePair]:
        return self._each(self._client.pairs(job_id, reviewed))

    def search_pairs(self, job_id: str, query: PairQuery) -> PairSearch:
        return self._wait(self._client.search_pairs(job_id, query))

    def review(self, job_id: str, pair_id: str, decision: Decision, reviewer: str) -> Review:
        return self._wait(self._client.review(job_id, pair_id, decision, reviewer))

    def reviews(self, job_id: str, pair_id: str | None = None) -> list[Review]:
        return self._wait(self._client.reviews(job_id, pair_id))

    def traces(self, job_id: str) -> Iterator[ImageTrace]:
        return self._each(self._client.traces(job_id))

    def export(self, job_id: str, file: Path, format: FileFormat, reviewed: Reviewed = "all") -> Path:
        return self._wait(self._client.export(job_id, file, format, reviewed))

    def submit_run(self, spec: RunSpec, *, idempotency_key: str | None = None) -> Run:
        return self._wait(self._client.submit_run(spec, idempotency_key=idempotency_key))

    def run(self, run_id: str) -> Run:
        return self._wait(self._client.run(run_id))

    def runs(self) -> Iterator[Run]:
        return self._each(self._client.runs())

    def cancel_run(self, run_id: str) -> Run:
        return self._wait(self._client.cancel_run(run_id))

    def retry_run(self, run_id: str) -> Run:
        return self._wait(self._client.retry_run(run_id))

    def run_events(self, run_id: str) -> Iterator[RunEvent]:
        return self._each(self._client.run_events(run_id))

    def wait_run(self, run_id: str) -> Run:
        return self._wait(self._client.wait_run(run_id))

    def run_metrics(self, run_id: str) -> list[TrainingMetrics]:
        return self._wait(self._client.run_metrics(run_id))

    def keep_evaluation(self, evaluation: Evaluation) -> Evaluation:
        return self._wait(self._client.keep_evaluation(evaluation))

    def evaluations(self, run_id: str) -> list[Evaluation]:
        return self._wait(self._client.evaluations(run_id))

    def download_artifacts(self, run_id: str, folder: Path) -> list[Path]:
        return self._wait(self._client.download_artifacts(run_id, folder))

    def generate(self, request: GenerateRequest) -> GenerateResponse:
        return self._wait(self._client.stages.generate(request)).response

    def critique(self, request: CritiqueRequest) -> CritiqueResponse:
        return self._wait(self._client.stages.critique(request)).response

    def instruct(self, request: InstructRequest) -> InstructResponse:
        return self._wait(self._client.stages.instruct(request)).response

    def edit(self, request: EditRequest) -> EditResponse:
        return self._wait(self._client.stages.edit(request)).response

    def reward(self, request: RewardRequest) -> RewardResponse:
        return self._wait(self._client.stages.reward(request)).response

    def distance(self, request: DistanceRequest) -> DistanceResponse:
        return self._wait(self._client.stages.distance(request)).response

    def _wait(self, call: Coroutine[Any, Any, T]) -> T:
        future = asyncio.run_coroutine_threadsafe(call, self._loop)
        try:
            return future.result()
        except BaseException:
            future.cancel()
            raise

    def _each(self, items: AsyncIterator[T]) -> Iterator[T]:
        async def following() -> T:
            return await anext(items)

        while True:
            try:
                item = self._wait(following())
            except StopAsyncIteration:
                return
            yield item
