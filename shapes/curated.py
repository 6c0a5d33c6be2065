"""The job behind every tool here."""

from retouche.cli.progress import follow
from retouche.client import Retouche
from retouche.contract.jobs import CurationSpec, Job


def curated(client: Retouche, spec: CurationSpec) -> Job:
    """The finished job with the models that are deployed: with others trained since, it is another one.

    Raises:
        SystemExit: a service is not ready, or the job did not finish.
    """
    if (pinned := client.pinned(spec)) is None:
        raise SystemExit(
            "a service is not ready, so that nobody knows its models; retouche doctor says which"
        )
    job = follow(client, client.submit(pinned).id)
    if job.state != "finished":
        raise SystemExit(f"{job.id} is {job.state}: {job.error}")
    return job
