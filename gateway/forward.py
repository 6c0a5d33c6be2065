"""The stage services behind the gateway's address, and what they have loaded."""

import asyncio

import httpx2
from fastapi import APIRouter, Request, Response

from gateway.callers import READ, SERVICES, Caller, TheCaller, caller
from gateway.ownership import check_adapter, check_images
from retouche import about
from retouche.client.problems import raise_for_problem, transport_errors, validated
from retouche.client.stages import StageClient
from retouche.contract.payload import Payload
from retouche.contract.services import MEMO_HEADER, ServiceStatus
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
from retouche.errors import RetoucheError, ServiceUnreachable, Unavailable
from retouche.tenancy import own
from serving.app import while_connected

router = APIRouter(tags=["stages"])


@router.post("/v1/generate", response_model=GenerateResponse, dependencies=[SERVICES])
async def generate(payload: GenerateRequest, caller: TheCaller, request: Request) -> Response:
    """One image for one prompt."""
    await check_adapter(request, caller.tenant, payload.adapter)
    return await _made(request, caller.tenant, "generation", payload, GenerateResponse)


@router.post("/v1/critique", response_model=CritiqueResponse, dependencies=[SERVICES])
async def critique(payload: CritiqueRequest, caller: TheCaller, request: Request) -> Response:
    """What an image shows and where it departs from its prompt."""
    await check_images(request, caller.tenant, [payload.image])
    return await _forward(request, "critique", payload)


@router.post("/v1/instruct", response_model=InstructResponse, dependencies=[SERVICES])
async def instruct(payload: InstructRequest, caller: TheCaller, request: Request) -> Response:
    """A critique as editing instructions."""
    await check_images(request, caller.tenant, [payload.image])
    return await _forward(request, "instruction", payload)


@router.post("/v1/edit", response_model=EditResponse, dependencies=[SERVICES])
async def edit(payload: EditRequest, caller: TheCaller, request: Request) -> Response:
    """One instruction carried out on one image."""
    await check_images(request, caller.tenant, [payload.image])
    await check_adapter(request, caller.tenant, payload.adapter)
    return await _made(request, caller.tenant, "editing", payload, EditResponse)


@router.post("/v1/reward", response_model=RewardResponse, dependencies=[SERVICES])
async def reward(payload: RewardRequest, caller: TheCaller, request: Request) -> Response:
    """Scores of images under a prompt."""
    await check_images(request, caller.tenant, payload.images)
    return await _forward(request, "reward", payload)


@router.post("/v1/distance", response_model=DistanceResponse, dependencies=[SERVICES])
async def distance(payload: DistanceRequest, caller: TheCaller, request: Request) -> Response:
    """How far two sets of images are apart."""
    await check_images(request, caller.tenant, [*payload.images, *payload.reference])
    return await _forward(request, "reward", payload)


@router.get("/v1/services", dependencies=[READ])
async def services(caller: TheCaller, request: Request) -> dict[str, ServiceStatus]:
    """Which services are up, and the models they have loaded; with `admin` also why one is not, in detail."""
    client: StageClient = request.app.state.stages
    statuses = await asyncio.gather(*(_status(client, stage, caller) for stage in STAGES))
    return dict(zip(STAGES, statuses, strict=True))


async def _made(
    request: Request,
    tenant: str,
    stage: str,
    payload: Payload,
    response_type: type[GenerateResponse] | type[EditResponse],
) -> Response:
    """Forward, and let the tenant see the image that was made."""
    answer = await _forward(request, stage, payload)
    made = validated(bytes(answer.body), response_type, stage).image
    await own(request.app.state.store, tenant, "images", made)
    return answer


async def _forward(request: Request, stage: str, payload: Payload) -> Response:
    upstream: httpx2.AsyncClient = request.app.state.upstreams[stage]
    called = f"the {stage} service"  # its address is for whoever runs it
    with transport_errors(called):
        body = payload.model_dump_json(exclude_unset=True)
        calling = upstream.post(
            request.url.path, content=body, headers={"content-type": "application/json", **about.headers()}
        )
        answer = await while_connected(request, calling)
    if answer.status_code == 401:  # it is the gateway that is not let in, not who called it
        raise Unavailable(
            f"{stage} refuses this gateway; give both the same RETOUCHE_INTERNAL_TOKEN",
            retry_after_seconds=30,
        )
    try:
        raise_for_problem(answer, called)
    except ServiceUnreachable as error:  # what the service calls in turn
        told = f"{stage}: {caller(request).told(error)}"
        raise ServiceUnreachable(told, retry_after_seconds=error.retry_after_seconds) from error
    headers = {name: answer.headers[name] for name in (MEMO_HEADER,) if name in answer.headers}
    return Response(answer.content, headers=headers, media_type="application/json")


async def _status(client: StageClient, stage: str, caller: Caller) -> ServiceStatus:
    try:
        return ServiceStatus(ready=True, readiness=await client.readiness(stage))
    except RetoucheError as error:
        return ServiceStatus(ready=False, detail=caller.told(error))
