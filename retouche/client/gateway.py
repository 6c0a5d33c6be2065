"""The asynchronous client of the gateway."""

import asyncio
import secrets
from collections.abc import AsyncIterator, Collection, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Self, TypeVar

import httpx2

from retouche.client.access import address, authorization
from retouche.client.patience import Patient
from retouche.client.problems import error_of, raise_for_problem, transport_errors, validated
from retouche.client.stages import StageClient
from retouche.client.uploads import prompt_lines, starting_image_lines
from retouche.contract.evaluation import Evaluation
from retouche.contract.jobs import (
    STARTING_IMAGES,
    CurationSpec,
    ImageInfo,
    ImageTrace,
    Job,
    JobEvent,
    JobPage,
    ModelIdentities,
    PairPage,
    PreferencePair,
    PromptSetInfo,
    RewardRule,
    TracePage,
)
from retouche.contract.keys import KeyId, KeyInfo, KeyPage, KeyRequest, NewKey, Scope
from retouche.contract.overview import Overview
from retouche.contract.pair_search import PairQuery, PairSearch
from retouche.contract.profiles import DeployedProfile
from retouche.contract.recovery import Recovered
from retouche.contract.reviews import Decision, Review, Reviewed
from retouche.contract.runs import Run, RunEvent, RunPage, RunSpec, TrainingMetrics
from retouche.contract.services import ServiceStatus
from retouche.errors import RetoucheError, ServiceUnreachable
from retouche.intake.images import Wanted
from retouche.intake.rows import Skipped

DEFAULT_URL = "http://127.0.0.1:8700"
RECONNECTIONS = 30
_RECONNECT_SECONDS = 1.0

ResponseT = TypeVar("ResponseT")
EventT = TypeVar("EventT", JobEvent, RunEvent)
FileFormat = Literal["ndjson", "parquet"]


class AsyncRetouche:
    """Talks to a gateway; `stages` calls the five stages through it.

    Raises (all methods): the class of retouche/errors.py that the gateway answered; ServiceUnreachable or
    DeadlineExceeded where there was no answer.
    """

    def __init__(
        self,
        url: str = DEFAULT_URL,
        *,
        api_key: str | None = None,
        timeout_seconds: float = 120.0,
        reconnections: int = RECONNECTIONS,
        transport: httpx2.AsyncBaseTransport | None = None,
    ) -> None:
        """`reconnections`: how often in a row a broken event stream is opened again, a second apart.

        Raises:
            BadRequest: `url` is no address, or `api_key` cannot be sent.
        """
        headers = authorization(api_key, "clients: api_key=, commands: RETOUCHE_API_KEY")
        self._url = address(url, "clients: url=, commands: RETOUCHE_URL")
        self._reconnections = reconnections
        self._client = httpx2.AsyncClient(
            base_url=self._url,
            headers=headers,
            timeout=httpx2.Timeout(timeout_seconds, connect=5.0),
            transport=Patient(transport or httpx2.AsyncHTTPTransport(trust_env=False)),
            trust_env=False,
        )
        self.stages = StageClient(
            self._url, timeout_seconds=timeout_seconds, headers=headers, transport=transport
        )

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Close every connection."""
        await self.stages.close()
        await self._client.aclose()

    async def services(self) -> dict[str, ServiceStatus]:
        """Which services are up, and the models they have loaded."""
        return await self._json("GET", "/v1/services", dict[str, ServiceStatus])

    async def create_key(self, tenant: str, scopes: Collection[Scope]) -> NewKey:
        """A key for a tenant, told here alone; like the other two, for those whose own key has `admin`."""
        wanted = KeyRequest(tenant=tenant, scopes=frozenset(scopes))
        return await self._json("POST", "/v1/keys", NewKey, payload=wanted.model_dump(mode="json"))

    async def keys(self) -> list[KeyInfo]:
        """Every key of every tenant."""
        return (await self._json("GET", "/v1/keys", KeyPage)).keys

    async def revoke_key(self, key_id: KeyId) -> None:
        """Let a key open nothing more."""
        await self._call("DELETE", f"/v1/keys/{key_id}")

    async def overview(self) -> Overview:
        """How busy the queues and the services are."""
        return await self._json("GET", "/v1/overview", Overview)

    async def profiles(self) -> list[DeployedProfile]:
        """The profiles that jobs and runs may name."""
        return await self._json("GET", "/v1/profiles", list[DeployedProfile])

    async def pinned(self, spec: CurationSpec, *, starting_images: bool = False) -> CurationSpec | None:
        """The job with the models that are deployed and at work in it, and the margins of those that vote.

        With others it is another job. None while a service is not ready.

        `starting_images`: its prompt set has them, so that none are generated.
        """
        found = {stage: status.readiness for stage, status in (await self.services()).items()}
        if (reward := found.pop("reward")) is None or None in found.values():
            return None
        idle = {"generation"} if starting_images else set()
        idle |= {"critique", "instruction"} if spec.style else set()
        at_work = {name: ready.models[name] for name, ready in found.items() if ready and name not in idle}
        voting = spec.rewards or tuple(
            RewardRule(name=name, margin=margin) for name, margin in sorted(reward.margins.items())
        )
        known = {rule.name: reward.models[rule.name] for rule in voting if rule.name in reward.models}
        models = ModelIdentities.model_validate({**at_work, "rewards": known})
        return spec.model_copy(update={"models": models, "rewards": voting})

    async def upload_image(self, image: bytes | Path) -> ImageInfo:
        """Store an encoded PNG, JPEG or WebP image."""
        data = await asyncio.to_thread(image.read_bytes) if isinstance(image, Path) else image
        return _read(await self._call("POST", "/v1/images", content=data), ImageInfo)

    async def image(self, reference: str) -> bytes:
        """The encoded image behind a reference."""
        return (await self._call("GET", f"/v1/images/{reference}")).content

    async def upload_prompts(
        self, source: Path | str, *, column: str | None = None, skipped: Skipped | None = None
    ) -> PromptSetInfo:
        """Store the prompts of a file, a folder or a data set of the Hub, streamed; see retouche.intake.

        `column` names theirs where it is not recognised. Rows that cannot be used are told in `skipped`.
        """
        lines = await prompt_lines(source, column, skipped or Skipped())
        return await self._prompt_set(lines, "application/x-ndjson")

    async def upload_images(
        self, source: Path | str, wanted: Wanted | None = None, *, skipped: Skipped | None = None
    ) -> PromptSetInfo:
        """Store existing images with their prompts, streamed, as a prompt set that a job starts from.

        `source`: a folder of images, Parquet with images, or pairs of Pick-a-Pic, here or on the Hub. A job
        counts and names images that cannot be read; rows without a prompt are told in `skipped`.
        """
        told = skipped or Skipped()
        async with starting_image_lines(source, wanted or Wanted(), told, self.upload_image) as lines:
            return await self._prompt_set(lines, STARTING_IMAGES)

    async def submit(self, spec: CurationSpec, *, idempotency_key: str | None = None) -> Job:
        """Start a curation job; the same specification is the same job."""
        payload = spec.model_dump(mode="json", exclude_none=True)
        return await self._json("POST", "/v1/jobs", Job, payload, headers=_once(idempotency_key))

    async def job(self, job_id: str) -> Job:
        return await self._json("GET", f"/v1/jobs/{job_id}", Job)

    async def jobs(self) -> AsyncIterator[Job]:
        """Every job, the newest first."""
        cursor: str | None = None
        while True:
            page = await self._json("GET", "/v1/jobs", JobPage, params=_at(cursor))
            for job in page.jobs:
                yield job
            if (cursor := page.next_cursor) is None:
                return

    async def cancel(self, job_id: str) -> Job:
        return await self._json("POST", f"/v1/jobs/{job_id}/cancel", Job)

    async def retry(self, job_id: str) -> Job:
        return await self._json("POST", f"/v1/jobs/{job_id}/retry", Job)

    async def recover(self) -> Recovered:
        """Set every unfinished job and run going again, after Redis was lost."""
        return await self._json("POST", "/v1/recover", Recovered)

    def events(self, job_id: str) -> AsyncIterator[JobEvent]:
        """The job's state now and at every change until it has ended; reconnects when the stream breaks."""
        return self._follow(f"/v1/jobs/{job_id}/events", JobEvent)

    async def wait(self, job_id: str) -> Job:
        """The job, once it has ended."""
        async for event in self.events(job_id):
            job = event.job
        return job

    async def pairs(self, job_id: str, reviewed: Reviewed = "all") -> AsyncIterator[PreferencePair]:
        """The pairs of the finished shards, as curated or as people's decisions have them.

        Of a job under way what is committed meanwhile may be passed over; of a finished one they are all.
        """
        cursor: str | None = None
        while True:
            params = {**_at(cursor), "reviewed": reviewed}
            page = await self._json("GET", f"/v1/jobs/{job_id}/pairs", PairPage, params=params)
            for pair in page.pairs:
                yield pair
            if (cursor := page.next_cursor) is None:
                return

    async def search_pairs(self, job_id: str, query: PairQuery) -> PairSearch:
        """One page of the pairs that a query asks for.

        Pages of a job under way may pass over or repeat pairs when more is committed in between; soon after
        it is finished they are complete and stable, those of a `decision` for as long as nobody decides.
        """
        params = {
            name: str(value) for name, value in query.model_dump(mode="json", exclude_none=True).items()
        }
        return await self._json("GET", f"/v1/jobs/{job_id}/pairs/search", PairSearch, params=params)

    async def review(self, job_id: str, pair_id: str, decision: Decision, reviewer: str) -> Review:
        """Decide about a pair; the newest decision counts, and none is overwritten."""
        payload = {"decision": decision, "reviewer": reviewer}
        return await self._json("POST", f"/v1/jobs/{job_id}/pairs/{pair_id}/reviews", Review, payload)

    async def reviews(self, job_id: str, pair_id: str | None = None) -> list[Review]:
        """Every decision about a job's pairs, or about one of them, the oldest first."""
        params = {} if pair_id is None else {"pair": pair_id}
        return await self._json("GET", f"/v1/jobs/{job_id}/reviews", list[Review], params=params)

    async def traces(self, job_id: str) -> AsyncIterator[ImageTrace]:
        """Every image of the finished shards and what became of it.

        Of a job under way what is committed meanwhile may be passed over; of a finished one they are all.
        """
        cursor: str | None = None
        while True:
            page = await self._json("GET", f"/v1/jobs/{job_id}/traces", TracePage, params=_at(cursor))
            for trace in page.traces:
                yield trace
            if (cursor := page.next_cursor) is None:
                return

    async def export(self, job_id: str, file: Path, format: FileFormat, reviewed: Reviewed = "all") -> Path:
        """Write the pairs of the finished shards to a file, which is there whole or not at all."""
        params = {"format": format, "reviewed": reviewed}
        return await self._download(f"/v1/jobs/{job_id}/pairs", file, params)

    async def submit_run(self, spec: RunSpec, *, idempotency_key: str | None = None) -> Run:
        """Start a training run; the same specification is the same run."""
        payload = spec.model_dump(mode="json", exclude_none=True)
        return await self._json("POST", "/v1/runs", Run, payload, headers=_once(idempotency_key))

    async def run(self, run_id: str) -> Run:
        return await self._json("GET", f"/v1/runs/{run_id}", Run)

    async def runs(self) -> AsyncIterator[Run]:
        """Every run, the newest first."""
        cursor: str | None = None
        while True:
            page = await self._json("GET", "/v1/runs", RunPage, params=_at(cursor))
            for run in page.runs:
                yield run
            if (cursor := page.next_cursor) is None:
                return

    async def cancel_run(self, run_id: str) -> Run:
        return await self._json("POST", f"/v1/runs/{run_id}/cancel", Run)

    async def retry_run(self, run_id: str) -> Run:
        return await self._json("POST", f"/v1/runs/{run_id}/retry", Run)

    def run_events(self, run_id: str) -> AsyncIterator[RunEvent]:
        """The run's state now and whenever it logs until it has ended; reconnects when the stream breaks."""
        return self._follow(f"/v1/runs/{run_id}/events", RunEvent)

    async def wait_run(self, run_id: str) -> Run:
        """The run, once it has ended."""
        async for event in self.run_events(run_id):
            run = event.run
        return run

    async def run_metrics(self, run_id: str) -> list[TrainingMetrics]:
        """Everything that the run has logged."""
        answer = await self._call("GET", f"/v1/runs/{run_id}/metrics")
        lines = answer.content.splitlines()
        return [validated(line, TrainingMetrics, str(answer.request.url)) for line in lines]

    async def keep_evaluation(self, evaluation: Evaluation) -> Evaluation:
        """Keep an evaluation beside its run, for everybody to see."""
        payload = evaluation.model_dump(mode="json")
        return await self._json("POST", f"/v1/runs/{evaluation.run}/evaluations", Evaluation, payload)

    async def evaluations(self, run_id: str) -> list[Evaluation]:
        """The evaluations kept of a run, those with most prompts first."""
        return await self._json("GET", f"/v1/runs/{run_id}/evaluations", list[Evaluation])

    async def download_artifacts(self, run_id: str, folder: Path) -> list[Path]:
        """Write every file that the run has made below `folder`; each is there whole or not at all."""
        files = []
        for artifact in (await self.run(run_id)).artifacts:
            file = folder / artifact.name
            await asyncio.to_thread(file.parent.mkdir, parents=True, exist_ok=True)
            files.append(await self._download(f"/v1/runs/{run_id}/artifacts/{artifact.name}", file))
        return files

    async def _prompt_set(self, content: AsyncIterator[bytes], kind: str) -> PromptSetInfo:
        answer = await self._call("POST", "/v1/prompts", content=content, headers={"content-type": kind})
        return _read(answer, PromptSetInfo)

    async def _follow(self, path: str, event_type: type[EventT]) -> AsyncIterator[EventT]:
        failures = 0
        while True:
            broke: RetoucheError = ServiceUnreachable(f"{self._url}{path} ended before its last event")
            try:
                async for event in self._stream_events(path, event_type):
                    failures = 0
                    yield event
                    if event.event != "progress":
                        return
            except RetoucheError as error:
                if not error.retryable:
                    raise
                broke = error
            failures += 1
            if failures > self._reconnections:
                raise broke
            await asyncio.sleep(_RECONNECT_SECONDS)

    async def _stream_events(self, path: str, event_type: type[EventT]) -> AsyncIterator[EventT]:
        timeout = httpx2.Timeout(60.0, connect=5.0)
        with transport_errors(self._url):
            async with self._client.stream("GET", path, timeout=timeout) as answer:
                if not answer.is_success:
                    await answer.aread()
                    raise error_of(answer)
                async for line in answer.aiter_lines():
                    if line.startswith("data:"):
                        yield validated(line.removeprefix("data:"), event_type, str(answer.request.url))

    async def _download(self, path: str, file: Path, params: Mapping[str, str] | None = None) -> Path:
        part = file.with_name(f".{file.name}.{secrets.token_hex(4)}")
        try:
            with transport_errors(self._url), part.open("xb") as written:
                async with self._client.stream("GET", path, params=params) as answer:
                    if not answer.is_success:
                        await answer.aread()
                        raise error_of(answer)
                    async for data in answer.aiter_bytes():
                        written.write(data)
            part.replace(file)  # closed by now: what is still in a buffer may find no space
        finally:
            part.unlink(missing_ok=True)
        return file

    async def _json(
        self,
        method: str,
        path: str,
        response_type: type[ResponseT],
        payload: Mapping[str, Any] | None = None,
        params: Mapping[str, str] | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> ResponseT:
        answer = await self._call(method, path, json=payload, params=params, headers=headers)
        return _read(answer, response_type)

    async def _call(self, method: str, path: str, **options: Any) -> httpx2.Response:
        with transport_errors(self._url):
            answer = await self._client.request(method, path, **options)
        raise_for_problem(answer)
        return answer


def _at(cursor: str | None) -> dict[str, str]:
    return {} if cursor is None else {"cursor": cursor}


def _once(idempotency_key: str | None) -> dict[str, str]:
    return {} if idempotency_key is None else {"idempotency-key": idempotency_key}


def _read(answer: httpx2.Response, response_type: type[ResponseT]) -> ResponseT:
    return validated(answer.content, response_type, str(answer.request.url))
