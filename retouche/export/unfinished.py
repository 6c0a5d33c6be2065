"""No export of a job that still goes on: what is finished of it would pass for all of it."""

from retouche.contract.jobs import Job
from retouche.errors import Conflict


def refuse_unfinished(job: Job) -> None:
    """Conflict while the job is queued or running; one that failed or was cancelled has all its pairs."""
    if job.state in ("queued", "running"):
        raise Conflict(
            f"{job.id} is {job.state}: wait until it has ended (`retouche jobs follow {job.id}`), or cancel "
            f"it to export the pairs of the {job.shards_finished} of {job.shards} shards that are finished"
        )
