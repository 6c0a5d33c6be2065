"""What is set going again."""

from pydantic import Field

from retouche.contract.jobs import Job
from retouche.contract.payload import Payload
from retouche.contract.runs import Run


class Recovered(Payload):
    jobs: list[Job] = Field(description="those that had shards missing")
    runs: list[Run] = Field(description="those that should have been in the queue or at work, and were not")
