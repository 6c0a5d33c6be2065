"""A service's log says what its caller says the call is about."""

import json
import logging

import httpx2
import pytest
from fastapi import APIRouter, FastAPI

from retouche.about import trace_of
from retouche.contract.services import Readiness
from retouche.logs import Json
from serving.app import Loaded, create_app
from tests.live import live

router = APIRouter()


@router.post("/v1/work")
async def work() -> str:
    logging.getLogger("retouche.test").warning("at work")
    return "done"


async def load(_: FastAPI) -> Loaded:
    async def stop() -> None:
        return None

    return Readiness(), stop


class Kept(logging.Handler):
    """Keeps the lines that it is given."""

    def __init__(self) -> None:
        super().__init__()
        self.setFormatter(Json())
        self.lines: list[dict[str, str]] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(json.loads(self.format(record)))


@pytest.mark.parametrize("known", [True, False])
def test_the_log_carries_what_the_call_is_about(known: bool) -> None:
    trace, kept = trace_of("job-1", 5, 0), Kept()
    sent = {"traceparent": f"00-{trace}-{trace[:16]}-01", "baggage": "retouche.job=job-1,retouche.item=5.0"}
    logger = logging.getLogger("retouche.test")
    logger.addHandler(kept)
    try:
        with live(create_app("Test", router, load)) as url:
            httpx2.post(f"{url}/v1/work", headers=sent if known else {}, trust_env=False).raise_for_status()
    finally:
        logger.removeHandler(kept)
    (line,) = kept.lines
    said = (line.get("job"), line.get("item"), line.get("trace"))
    assert said == (("job-1", "5.0", trace) if known else (None, None, None))
