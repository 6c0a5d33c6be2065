"""The stage services behind the gateway's address, and what they have loaded."""

import asyncio
from collections.abc import Mapping

import httpx2
from fastapi import APIRouter, Request, Response

from retouche.client.problems import error_of, transport_errors
from retouche.client.replicas import Replicas
from retouche.client.stages import StageClient
from retouche.contract.services import MEMO_HEADER, ServiceStatus
from retouche.contract.stages import (
    STAGES,
    CritiqueRequest,
    CritiqueResponse,
    EditRequest,
    EditResponse,
    GenerateRequest,
    GenerateResponse,
    InstructRequest,
    InstructResponse,
    RewardRequest,
    RewardResponse,
)
from retouche.errors import RetoucheError
from serving.app import while_connected

router = APIRouter(tags=["stages"])


@router.post("/v1/generate", response_model=GenerateResponse)
async def generate(payload: GenerateRequest, request: Request) -> Response:
    """One image for one prompt."""
    return await _forward(request, "generation", payload.model_dump_json(exclude_unset=True))


@router.post("/v1/critique", response_model=CritiqueResponse)
async def critique(payload: CritiqueRequest, request: Request) -> Response:
    """What an image shows and where it departs from its prompt."""
    return await _forward(request, "critique", payload.model_dump_json(exclude_unset=True))


@router.post("/v1/instruct", response_model=InstructResponse)
async def instruct(payload: InstructRequest, request: Request) -> Response:
    """A critique as editing instructions."""
    return await _forward(request, "instruction", payload.model_dump_json(exclude_unset=True))


@router.post("/v1/edit", response_model=EditResponse)
async def edit(payload: EditRequest, request: Request) -> Response:
    """One instruction carried out on one image."""
    return await _forward(request, "editing", payload.model_dump_json(exclude_unset=True))


@router.post("/v1/reward", response_model=RewardResponse)
async def reward(payload: RewardRequest, request: Request) -> Response:
    """Scores of images under a prompt."""
    return await _forward(request, "reward", payload.model_dump_json(exclude_unset=True))


@router.get("/v1/services")
async def services(request: Request) -> dict[str, ServiceStatus]:
    """Which services are up, and the models they have loaded."""
    client: StageClient = request.app.state.stages
    statuses = await asyncio.gather(*(_status(client, stage) for stage in STAGES))
    return dict(zip(STAGES, statuses, strict=True))


def connect(urls: Mapping[str, str], timeout_seconds: float) -> dict[str, httpx2.AsyncClient]:
    """A connection pool for every service."""
    return {
        stage: httpx2.AsyncClient(
            base_url=url,
            timeout=httpx2.Timeout(timeout_seconds, connect=5.0),
            transport=Replicas(httpx2.AsyncHTTPTransport(trust_env=False)),
            trust_env=False,
        )
        for stage, url in urls.items()
    }


async def _forward(request: Request, stage: str, body: str) -> Response:
    upstream: httpx2.AsyncClient = request.app.state.upstreams[stage]
    with transport_errors(f"{stage} at {upstream.base_url}"):
        calling = upstream.post(request.url.path, content=body, headers={"content-type": "application/json"})
        answer = await while_connected(request, calling)
    if not answer.is_success:
        raise error_of(answer)
    headers = {name: answer.headers[name] for name in (MEMO_HEADER,) if name in answer.headers}
    return Response(answer.content, headers=headers, media_type="application/json")


async def _status(client: StageClient, stage: str) -> ServiceStatus:
    try:
        return ServiceStatus(ready=True, readiness=await client.readiness(stage))
    except RetoucheError as error:
        return ServiceStatus(ready=False, detail=error.detail)
