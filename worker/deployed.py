"""Whether the model that a job is for is the one that is there."""

from retouche.contract.payload import ModelIdentity
from retouche.errors import Conflict


def check_model(what: str, wanted: ModelIdentity, deployed: ModelIdentity | None) -> None:
    """Conflict if it is another. `what`: a stage, or a reward model."""
    if wanted != deployed:
        raise Conflict(
            f"the job is for {what} {wanted}, and {deployed or 'none'} is deployed: deploy that one and "
            "retry the job, or submit it anew for the models of today"
        )
