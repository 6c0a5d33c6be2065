"""The vision-language model of a service: in a process beside it, or behind an OpenAI-compatible server."""

import asyncio
from dataclasses import dataclass
from typing import Protocol

from retouche.metrics import ServiceMetrics
from retouche.profile import VisionLanguageProfile
from services.vlm.chat import Answer, Asked, Question, read
from services.vlm.openai import OpenAIServer
from services.vlm.settings import VisionLanguageSettings
from serving.batching import MicroBatcher
from serving.model_process import ModelProcess


class VisionLanguage(Protocol):
    """One verb: answer a question about a picture."""

    async def answer(self, question: Question[Answer], image: bytes) -> Answer:
        """The model's answer about an encoded image.

        Raises:
            ModelFailure: it answered out of its schema, or not to the end.
            Unavailable, DeadlineExceeded, Overloaded: it cannot answer now.
        """

    async def close(self) -> None: ...


async def open_backend(
    profile: VisionLanguageProfile, settings: VisionLanguageSettings, metrics: ServiceMetrics
) -> VisionLanguage:
    """The model that the profile names, loaded or ready to be asked."""
    if profile.backend == "openai":
        server = OpenAIServer(
            base_url=settings.vlm_url or profile.address,
            model=profile.model,
            max_answer_tokens=profile.max_answer_tokens,
            api_key=settings.vlm_api_key.get_secret_value() if settings.vlm_api_key else None,
            timeout_seconds=settings.vlm_timeout_seconds,
        )
        await server.until_served()
        return server
    return await _open_local(profile, settings.max_waiting, metrics)


@dataclass(frozen=True)
class _Local:
    """A model of this service's own, concurrent questions batched."""

    batcher: MicroBatcher[Asked, str]
    model: ModelProcess

    async def answer(self, question: Question[Answer], image: bytes) -> Answer:
        return read(question.answer, await self.batcher(Asked(question, image)))

    async def close(self) -> None:
        await self.batcher.stop()
        await asyncio.to_thread(self.model.close)


async def _open_local(profile: VisionLanguageProfile, max_waiting: int, metrics: ServiceMetrics) -> _Local:
    chosen = (profile.model, profile.revision, profile.dtype, profile.max_answer_tokens)
    model = await asyncio.to_thread(ModelProcess, "services.vlm.local:steps", *chosen)
    batcher = MicroBatcher(
        model.run("answer"),
        prepare=model.prepare("answer"),
        key=_any_question,
        max_batch=profile.max_batch,
        max_waiting=max_waiting,
        at_once=2,
        metrics=metrics,
    )
    await batcher.start()
    return _Local(batcher, model)


def _any_question(_: Asked) -> None:
    """All questions can share a batch."""
