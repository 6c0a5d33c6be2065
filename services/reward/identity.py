"""Who scores."""

from retouche.contract.payload import ModelIdentity
from retouche.identity import identify, together
from retouche.profile import RewardChoice, located


def identity(choice: RewardChoice) -> ModelIdentity:
    """The weights, and the base that they come without, if any."""
    weights = identify(located(choice.model), choice.revision)
    if choice.base is None:
        return weights
    return together(weights, identify(located(choice.base), choice.base_revision))
