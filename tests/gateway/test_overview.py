"""How busy everything is: what the queues hold, and what the services' own meters say, replicas added up."""

import httpx2
from fastapi import APIRouter, FastAPI, Request
from prometheus_client.parser import text_string_to_metric_families

from gateway.app import create_app as create_gateway
from gateway.overview import load_of
from gateway.settings import Settings
from retouche.contract.services import Readiness
from serving.app import Loaded, create_app
from tests.gateway.server import NOTHING_LISTENS, serve
from tests.gateway.tenants import made
from tests.live import live

METERS = """
retouche_request_seconds_count{route="/v1/edit",status="200"} 7.0
retouche_request_seconds_count{route="/v1/edit",status="429"} 2.0
retouche_request_seconds_count{route="/v1/edit",status="500"} 1.0
retouche_request_seconds_count{route="/metrics",status="200"} 90.0
retouche_memo_answers_total{outcome="hit"} 3.0
retouche_memo_answers_total{outcome="miss"} 4.0
retouche_waiting_items 5.0
retouche_model_seconds_total 1.5
"""


def test_a_services_meters_are_read() -> None:
    families = text_string_to_metric_families(METERS)
    load = load_of(sample for family in families for sample in family.samples)
    assert (load.answered, load.refused, load.failed, load.remembered) == (7, 2, 1, 3)
    assert (load.waiting, load.model_seconds) == (5, 1.5)


def service() -> FastAPI:
    """A stage's service that answers one verb."""
    router = APIRouter()

    @router.post("/v1/critique")
    async def verb(request: Request) -> str:
        request.app.state.metrics.waiting.inc()
        return "seen"

    async def load(_app: FastAPI) -> Loaded:
        async def stop() -> None:
            return

        return Readiness(), stop

    return create_app("stage", router, load)


def test_what_services_and_queues_are_at(settings: Settings) -> None:
    with (
        live(service()) as url,
        serve(create_gateway(settings.model_copy(update={"critique_url": url}))) as gateway,
    ):
        httpx2.post(f"{url}/v1/critique", trust_env=False)
        gateway.post("/v1/jobs", json={"prompts": ["x"] * 65})
        found = gateway.get("/v1/overview").json()
    assert found["stages"]["critique"].items() >= {"replicas": 1, "answered": 1, "waiting": 1}.items()
    assert found["queues"]["curate"] == {"waiting": 2, "at_work": 0, "workers": 0}


def test_addresses_of_services_are_told_to_whoever_runs_them(guarded: httpx2.Client) -> None:
    for scopes, told in ((("read",), "Service unreachable"), (("read", "admin"), NOTHING_LISTENS)):
        key = made(guarded, "acme", *scopes)
        stages = guarded.get("/v1/overview", headers=key).json()["stages"]
        services = guarded.get("/v1/services", headers=key).json()
        for found in (stages["critique"], services["critique"]):
            assert told in found["detail"]
            assert "admin" in scopes or "http" not in found["detail"]


def test_a_service_that_is_down_is_said_to_be(gateway: httpx2.Client) -> None:
    stage = gateway.get("/v1/overview").json()["stages"]["editing"]
    assert stage["replicas"] == 0
    assert "is it running?" in stage["detail"]
