"""A vision-language model behind any OpenAI-compatible server: vLLM in production."""

import asyncio
import base64
import logging

import httpx2
from pydantic import BaseModel, Field, ValidationError

from retouche.client.problems import error_of, transport_errors
from retouche.errors import DeadlineExceeded, ModelFailure, RetoucheError, ServiceUnreachable, Unavailable
from retouche.images import media_type
from services.vlm.chat import Answer, Question, read

_log = logging.getLogger("retouche.vlm")

_CALLED = "the model server"  # its address is in the log: an answer may go to whoever asks the gateway
_ATTEMPTS = 4
_BACKOFF_SECONDS = 0.25  # doubled after every attempt
_LONGEST_WAIT_SECONDS = 10.0  # of a caller's time; a server that asks for more leaves the caller to ask later
_LOOK_SECONDS = 1.0
_MISCONFIGURED = (401, 403, 404)  # every other question would be refused as well


class _Message(BaseModel):
    content: str | None = None


class _Choice(BaseModel):
    finish_reason: str | None
    message: _Message


class _Completion(BaseModel):
    choices: list[_Choice] = Field(min_length=1)


class _Served(BaseModel):
    id: str


class _Models(BaseModel):
    data: list[_Served]


class OpenAIServer:
    """Asks `base_url`/chat/completions greedily, under the answer's JSON schema.

    A server that cannot be reached, is late, or answers with a 429 or 5xx is asked again, up to `attempts`
    times in all, after as long as it says; an answer cut short or out of its schema once more.
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
        self._base_url = base_url.rstrip("/")
        self._url = f"{self._base_url}/chat/completions"
        self._model = model
        self._max_answer_tokens = max_answer_tokens
        self._attempts = attempts
        self._backoff_seconds = backoff_seconds
        headers = {"Authorization": f"Bearer {api_key}"} if api_key else {}
        self._client = httpx2.AsyncClient(headers=headers, timeout=timeout_seconds, transport=transport)

    async def until_served(self) -> None:
        """Wait until the server answers, as long as it takes to load its model.

        Raises:
            ModelFailure: it has other models, or does not take the API key.
        """
        served = await self._served()
        while served is None:
            await asyncio.sleep(_LOOK_SECONDS)
            served = await self._served()
        if self._model not in served:
            raise ModelFailure(
                f"{self._base_url} serves {', '.join(served) or 'nothing'}, not {self._model}; name the "
                "model in the profile as the server does (vLLM: --served-model-name)"
            )

    async def _served(self) -> list[str] | None:
        """The names of the server's models; None while there is no answer."""
        try:
            with transport_errors(self._base_url):
                response = await self._client.get(f"{self._base_url}/models")
        except (Unavailable, DeadlineExceeded):
            return None
        if response.status_code in _MISCONFIGURED:
            raise ModelFailure(f"{response.request.url}: {_refusal(response)}")
        if not response.is_success:
            return None
        try:
            return [model.id for model in _Models.model_validate_json(response.content).data]
        except ValidationError:
            raise ModelFailure(
                f"{response.request.url} answered with no list of models: {response.text[:80]!r}; is it an "
                "OpenAI-compatible server?"
            ) from None

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
                with transport_errors(_CALLED):
                    response = await self._client.post(self._url, json=body)
                if response.is_success:
                    return response
                raise _failure(response)
            except RetoucheError as error:
                _log.warning("%s, attempt %d of %d: %s", self._url, attempt, self._attempts, error)
                wait = error.retry_after_seconds or self._backoff_seconds * 2 ** (attempt - 1)
                if not error.retryable or attempt == self._attempts or wait > _LONGEST_WAIT_SECONDS:
                    raise
                await asyncio.sleep(wait)
        raise AssertionError("a loop of at least one attempt returns or raises")


def _failure(response: httpx2.Response) -> RetoucheError:
    """What a server's refusal means: its own fault or the profile's may pass, the question's not."""
    if response.status_code >= 500 and response.status_code not in (503, 504):
        return ServiceUnreachable(f"{_CALLED} answered {response.status_code}: {response.text[:200].strip()}")
    if response.status_code in _MISCONFIGURED:
        return Unavailable(_refusal(response))
    if response.status_code in (400, 413, 422):
        return ModelFailure(
            f"{_CALLED} refused the question with {response.status_code}: {response.text[:200].strip()}"
        )
    return error_of(response, _CALLED)


def _refusal(response: httpx2.Response) -> str:
    return (
        f"{_CALLED} answered {response.status_code}: {response.text[:200].strip()}; "
        "check base_url and model of the profile, and RETOUCHE_VLM_API_KEY"
    )


def _finished(response: httpx2.Response) -> str:
    """The text of a completion that came to its end.

    Raises:
        ModelFailure: it is no completion, or was cut short.
    """
    try:
        choice = _Completion.model_validate_json(response.content).choices[0]
    except ValidationError:
        raise ModelFailure(f"{_CALLED} answered with no chat completion: {response.text[:80]!r}") from None
    if choice.finish_reason != "stop":
        raise ModelFailure(
            f"the model's answer was cut short ({choice.finish_reason}); raise max_answer_tokens"
        )
    return choice.message.content or ""
