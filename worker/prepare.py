"""What a shard has to know before it begins: who votes, and whether the right models are deployed."""

from functools import partial

from retouche.client.stages import StageClient
from retouche.contract.jobs import CurationSpec, ModelIdentities
from retouche.contract.payload import ModelIdentity
from retouche.contract.stages import STAGES
from retouche.errors import BadRequest
from worker.curate import Curation
from worker.deployed import check_model
from worker.limits import Limit


async def prepare(spec: CurationSpec, client: StageClient, limits: dict[str, Limit]) -> Curation:
    """Learn which reward models there are, and their margins; waits for services that are still loading.

    Raises:
        ServiceAway: the reward service is not there within the patience.
        BadRequest: the specification names a reward model that the service does not have, or it has none.
        Conflict: other models are deployed than the specification names.
    """

    async def ready() -> dict[str, float]:
        readiness = await client.readiness("reward")
        models.update(readiness.models)
        return readiness.margins

    models: dict[str, ModelIdentity] = {}
    defaults = await limits["reward"](ready)
    margins = {rule.name: rule.margin for rule in spec.rewards} or defaults
    if not margins:
        raise BadRequest(
            "the reward service names no reward model with a margin, so nothing can vote; "
            "name some in the job's `rewards`, or give its profile `rewards`"
        )
    if unknown := sorted(set(margins) - set(models)):
        raise BadRequest(
            f"there is no reward model {unknown[0]!r}; the service has {', '.join(sorted(models))}"
        )
    if spec.models is not None:
        await _check_models(spec.models, models, client, limits)
    return Curation(spec, client, limits, margins)


async def _check_models(
    wanted: ModelIdentities,
    rewards: dict[str, ModelIdentity],
    client: StageClient,
    limits: dict[str, Limit],
) -> None:
    """Conflict unless what is wanted is deployed."""
    for name, model in wanted.rewards.items():
        check_model(f"reward {name}", model, rewards.get(name))
    for stage in STAGES:
        identity: ModelIdentity | None = getattr(wanted, stage, None)
        if identity is not None:
            readiness = await limits[stage](partial(client.readiness, stage))
            check_model(stage, identity, readiness.models.get(stage))
