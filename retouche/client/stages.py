"""An asynchronous client of the five stage services."""

from collections.abc import Mapping
from dataclasses import dataclass
from types import TracebackType
from typing import Generic, Self, TypeVar

import httpx2
from pydantic import BaseModel, SecretStr

from retouche import about
from retouche.client.problems import raise_for_problem, transport_errors, validated
from retouche.client.replicas import Replicas
from retouche.contract.services import MEMO_HEADER, Readiness
from retouche.contract.stages import (
    STAGES,
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

ResponseT = TypeVar("ResponseT", bound=BaseModel)

_JSON = {"content-type": "application/json"}


@dataclass(frozen=True, slots=True)
class Answer(Generic[ResponseT]):
    """A stage's response. `remembered`: it came from the memo, no model was run for it."""

    response: ResponseT
    remembered: bool


def bearing(token: SecretStr | None) -> dict[str, str]:
    """The header that the services want: that of the token their system shares, if it has one."""
    return {"authorization": f"Bearer {token.get_secret_value()}"} if token else {}


def connections(
    urls: Mapping[str, str],
    *,
    timeout_seconds: float,
    connect_timeout_seconds: float = 5.0,
    headers: Mapping[str, str] | None = None,
    transport: httpx2.AsyncBaseTransport | None = None,
) -> dict[str, httpx2.AsyncClient]:
    """A pool for each stage: how many connections are open is the caller's to bound, not the pool's."""
    timeout = httpx2.Timeout(timeout_seconds, connect=connect_timeout_seconds, pool=None)
    # Few are kept idle, as the pool looks at each for every call, and for less long than uvicorn keeps them.
    limits = httpx2.Limits(max_connections=None, max_keepalive_connections=16, keepalive_expiry=3)
    trusted = httpx2.create_ssl_context(trust_env=False)  # once: it takes 30 ms
    return {
        stage: httpx2.AsyncClient(
            base_url=urls[stage].rstrip("/"),
            timeout=timeout,
            headers=dict(headers or {}),
            transport=transport
            or Replicas(httpx2.AsyncHTTPTransport(verify=trusted, limits=limits, trust_env=False)),
            trust_env=False,
        )
        for stage in STAGES
    }


class StageClient:
    """Calls the stage services.

    Raises (all methods that call):
        ServiceUnreachable: no connection, or one that broke.
        DeadlineExceeded: no answer within the timeout.
        ModelFailure: the answer does not keep the contract.
        RetoucheError: whichever class of the tree the service answered.
    """

    def __init__(
        self,
        urls: str | Mapping[str, str],
        *,
        timeout_seconds: float = 120.0,
        connect_timeout_seconds: float = 5.0,
        headers: Mapping[str, str] | None = None,
        transport: httpx2.AsyncBaseTransport | None = None,
    ) -> None:
        """`urls`: an address for each stage of STAGES, or one that serves them all (a gateway)."""
        self._clients = connections(
            dict.fromkeys(STAGES, urls) if isinstance(urls, str) else urls,
            timeout_seconds=timeout_seconds,
            connect_timeout_seconds=connect_timeout_seconds,
            headers=headers,
            transport=transport,
        )

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Close every connection."""
        for client in self._clients.values():
            await client.aclose()

    async def generate(self, request: GenerateRequest) -> Answer[GenerateResponse]:
        return await self._post("generation", "/v1/generate", request, GenerateResponse)

    async def critique(self, request: CritiqueRequest) -> Answer[CritiqueResponse]:
        return await self._post("critique", "/v1/critique", request, CritiqueResponse)

    async def instruct(self, request: InstructRequest) -> Answer[InstructResponse]:
        return await self._post("instruction", "/v1/instruct", request, InstructResponse)

    async def edit(self, request: EditRequest) -> Answer[EditResponse]:
        return await self._post("editing", "/v1/edit", request, EditResponse)

    async def reward(self, request: RewardRequest) -> Answer[RewardResponse]:
        return await self._post("reward", "/v1/reward", request, RewardResponse)

    async def distance(self, request: DistanceRequest) -> Answer[DistanceResponse]:
        return await self._post("reward", "/v1/distance", request, DistanceResponse)

    async def readiness(self, stage: str) -> Readiness:
        """What the service of `stage` has loaded; Unavailable while it is loading."""
        client = self._clients[stage]
        with transport_errors(str(client.base_url)):
            response = await client.get("/readyz")
        raise_for_problem(response)
        return validated(response.content, Readiness, str(response.request.url))

    async def _post(
        self, stage: str, path: str, request: BaseModel, response_type: type[ResponseT]
    ) -> Answer[ResponseT]:
        client = self._clients[stage]
        body = request.model_dump_json(exclude_defaults=True).encode()
        with transport_errors(str(client.base_url)):
            response = await client.post(path, content=body, headers={**_JSON, **about.headers()})
        raise_for_problem(response)
        remembered = response.headers.get(MEMO_HEADER) == "hit"
        return Answer(validated(response.content, response_type, str(response.request.url)), remembered)
