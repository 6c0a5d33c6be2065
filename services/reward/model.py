"""The profile's reward models, each loaded once."""

from collections.abc import Callable, Mapping

from retouche.contract.payload import ModelIdentity
from retouche.identity import identify, together
from retouche.profile import RewardChoice, located
from services.reward import aesthetic, clipscore, hpsv2, imagereward, pickscore
from services.reward.reward_model import RewardModel

_KINDS: Mapping[str, Callable[[RewardChoice], RewardModel]] = {
    "clip": pickscore.load,
    "pickscore": pickscore.load,
    "clipscore": clipscore.load,
    "hpsv2": hpsv2.load,
    "aesthetic": aesthetic.load,
    "imagereward": imagereward.load,
}


def load(rewards: dict[str, RewardChoice]) -> dict[str, RewardModel]:
    """Every reward model that the profile names.

    Raises:
        ModelFailure: the weights of one are not those of its kind; says which and why.
    """
    return {name: _KINDS[choice.kind](choice) for name, choice in rewards.items()}


def identity(choice: RewardChoice) -> ModelIdentity:
    """Who scores: the weights, and the base that they come without, if any."""
    weights = identify(located(choice.model), choice.revision)
    if choice.base is None:
        return weights
    return together(weights, identify(located(choice.base), choice.base_revision))
