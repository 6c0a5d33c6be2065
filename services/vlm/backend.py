"""The vision-language model of a service: in this process, or behind an OpenAI-compatible server."""

import asyncio
from typing import Protocol

from retouche.metrics import ServiceMetrics
from retouche.profile import VisionLanguageProfile
from services.vlm.chat import Answer, Question
from services.vlm.openai import OpenAIServer
from services.vlm.settings import VisionLanguageSettings
from serving.batching import MicroBatcher


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
    from services.vlm import local  # torch is loaded where it is used

    model = await asyncio.to_thread(
        local.load, profile.model, profile.revision, profile.dtype, profile.max_answer_tokens
    )
    batcher = MicroBatcher(
        model,
        key=local.any_question,
        max_batch=profile.max_batch,
        max_waiting=settings.max_waiting,
        metrics=metrics,
    )
    await batcher.start()
    return local.Local(batcher)
