"""A vision-language model behind any OpenAI-compatible server: vLLM in production."""

import asyncio
import base64

import httpx2
from pydantic import BaseModel, Field, ValidationError

from retouche.client.problems import error_of, transport_errors
from retouche.errors import ModelFailure, RetoucheError, ServiceUnreachable
from retouche.images import media_type
from services.vlm.chat import Answer, Question, read

_ATTEMPTS = 4
_BACKOFF_SECONDS = 0.25  # doubled after every attempt


class _Message(BaseModel):
    content: str | None = None


class _Choice(BaseModel):
    finish_reason: str | None
    message: _Message


class _Completion(BaseModel):
    choices: list[_Choice] = Field(min_length=1)


class OpenAIServer:
    """Asks `base_url`/chat/completions greedily, under the answer's JSON schema.

    A server that cannot be reached, is late, or answers with a 429 or 5xx is asked again, up to `attempts`
    times in all; an answer cut short or out of its schema once more.
    """

    def __init__(
        self,
        base_url: str,
        model: str,
        *,
        max_answer_tokens: int = 512,
        api_key: str | None = None,
        timeout_seconds: float = 60.0,
        attempts: int = _ATTEMPTS,
        backoff_seconds: float = _BACKOFF_SECONDS,
        transport: httpx2.AsyncBaseTransport | None = None,
    ) -> None:
        self._url = f"{base_url.rstrip('/')}/chat/completions"
        self._model = model
        self._max_answer_tokens = max_answer_tokens
        self._attempts = attempts
        self._backoff_seconds = backoff_seconds
        headers = {"Authorization": f"Bearer {api_key}"} if api_key else {}
        self._client = httpx2.AsyncClient(headers=headers, timeout=timeout_seconds, transport=transport)

    async def answer(self, question: Question[Answer], image: bytes) -> Answer:
        """See `VisionLanguage`."""
        try:
            return read(question.answer, await self._text(question, image))
        except ModelFailure:
            return read(question.answer, await self._text(question, image))

    async def close(self) -> None:
        await self._client.aclose()

    async def _text(self, question: Question[Answer], image: bytes) -> str:
        url = f"data:{media_type(image)};base64,{base64.b64encode(image).decode()}"
        body = {
            "model": self._model,
            "messages": question.messages(url),
            "response_format": question.response_format,
            "temperature": 0,
            "seed": 0,
            "max_tokens": self._max_answer_tokens,
        }
        return _finished(await self._post(body))

    async def _post(self, body: dict[str, object]) -> httpx2.Response:
        """The server's answer, asked again while what keeps it from answering may pass."""
        for attempt in range(1, self._attempts + 1):
            try:
                with transport_errors(self._url):
                    response = await self._client.post(self._url, json=body)
                if response.is_success:
                    return response
                raise _failure(response)
            except RetoucheError as error:
                if not error.retryable or attempt == self._attempts:
                    raise
                await asyncio.sleep(error.retry_after_seconds or self._backoff_seconds * 2 ** (attempt - 1))
        raise AssertionError("a loop of at least one attempt returns or raises")


def _failure(response: httpx2.Response) -> RetoucheError:
    """What a server's refusal means: a fault of its own may pass, and what it says of us is our mistake."""
    if response.status_code >= 500 and response.status_code not in (503, 504):
        return ServiceUnreachable(
            f"{response.request.url} answered {response.status_code}: {response.text[:200].strip()}"
        )
    if response.status_code in (400, 401, 403, 404, 422):
        return ModelFailure(
            f"{response.request.url} refused the question with {response.status_code}: "
            f"{response.text[:200].strip()}; check base_url, model and API key of the profile"
        )
    return error_of(response)


def _finished(response: httpx2.Response) -> str:
    """The text of a completion that came to its end.

    Raises:
        ModelFailure: it is no completion, or was cut short.
    """
    try:
        choice = _Completion.model_validate_json(response.content).choices[0]
    except ValidationError:
        raise ModelFailure(
            f"{response.request.url} answered with no chat completion: {response.text[:80]!r}"
        ) from None
    if choice.finish_reason != "stop":
        raise ModelFailure(
            f"the model's answer was cut short ({choice.finish_reason}); raise max_answer_tokens"
        )
    return choice.message.content or ""
