"""What every process says about itself."""

from typing import Annotated, Literal

from pydantic import Field

from retouche.contract.payload import ModelIdentity, Payload
from retouche.contract.stages import RewardName

ALONE_HEADER = "x-retouche-alone"  # the service may have died of this request: it runs beside no other
MEMO_HEADER = "x-retouche-memo"  # "hit" where a service answered from its memo, else "miss"


class Health(Payload):
    """`/healthz`: the process is alive."""

    status: Literal["ok"] = "ok"


class Readiness(Payload):
    """`/readyz`: 200 once the models are loaded, 503 with a problem until then.

    `margins` are the reward service's own: what the profile takes as a difference between two raw scores.
    """

    status: Literal["ready"] = "ready"
    models: dict[str, ModelIdentity] = {}
    margins: dict[RewardName, Annotated[float, Field(ge=0)]] = {}


class ServiceStatus(Payload):
    """A service as the gateway sees it; `detail` says why it is not ready."""

    ready: bool
    readiness: Readiness | None = None
    detail: str | None = None
