"""RQ jobs as we take them: they call one function with plain arguments, and nothing else happens with them.

Whoever can write to Redis could otherwise name any function: as what a worker runs, as what is called when
it fails or ends, or, as a webhook, any address that is told.
"""

from typing import Annotated, Any

from pydantic import Field, TypeAdapter, ValidationError
from rq.exceptions import DeserializationError
from rq.job import Job

from retouche.contract.jobs import JobId
from retouche.contract.payload import RunId
from retouche.coordination import CURATE_FUNCTION, TRAIN_FUNCTION

_ARGUMENTS: dict[str, TypeAdapter[Any]] = {
    CURATE_FUNCTION: TypeAdapter(tuple[JobId, Annotated[int, Field(ge=0, strict=True)]]),
    TRAIN_FUNCTION: TypeAdapter(tuple[RunId]),
}


class PlainJob(Job):
    """A job without callbacks and webhooks, whatever Redis says.

    Not only the worker that runs a job calls them: RQ's upkeep does for jobs that were never run.
    """

    def restore(self, raw_data: Any) -> None:
        super().restore(raw_data)
        self._success_callback_name = self._failure_callback_name = self._stopped_callback_name = None
        self.webhooks = []


def refusal(job: Job, function: str) -> str | None:
    """Why a worker must not run a job of its queue; None: it calls `function` as we do."""
    try:
        name, instance, arguments, options = job.func_name, job.instance, job.args, job.kwargs
    except DeserializationError:
        return "its arguments cannot be read"
    if name != function:
        return f"it calls {name}, and only {function} is run"
    if instance is not None or options or not _fit(function, arguments):
        return f"its arguments {arguments} {options} are not those of {function}"
    return None


def _fit(function: str, arguments: object) -> bool:
    try:
        _ARGUMENTS[function].validate_python(arguments)
    except ValidationError:
        return False
    return True
