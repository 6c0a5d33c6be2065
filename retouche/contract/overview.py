"""How busy everything is. Counters only grow; who asks twice has what happened in between."""

from datetime import datetime
from typing import Literal

from pydantic import Field

from retouche.contract.payload import Payload


class StageLoad(Payload):
    """One stage's service, over its replicas. Counters begin anew when a replica does."""

    replicas: int = Field(description="that answer now; 0: `detail` says why")
    answered: int = Field(default=0, description="calls answered, by a model or from memory")
    remembered: int = Field(default=0, description="of these, from memory")
    refused: int = Field(default=0, description="calls turned away because too many wait")
    failed: int = Field(default=0, description="calls that ended in an error of the service or its model")
    waiting: int = Field(default=0, description="items that wait for the model now")
    model_seconds: float = Field(default=0.0, description="that models were at work")
    detail: str | None = None


class QueueLoad(Payload):
    """One queue: shards of curation jobs, or training runs."""

    waiting: int
    at_work: int
    workers: int


class Overview(Payload):
    at: datetime
    stages: dict[str, StageLoad]
    queues: dict[Literal["curate", "train"], QueueLoad] | None = Field(description="none: Redis is away")
