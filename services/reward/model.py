"""The profile's reward models, each loaded once."""

from services.reward import clip
from services.reward.reward_model import RewardModel
from serving.profile import RewardChoice

_KINDS = {"clip": clip.load}


def load(rewards: dict[str, RewardChoice]) -> dict[str, RewardModel]:
    """Every reward model that the profile names."""
    return {name: _KINDS[choice.kind](choice) for name, choice in rewards.items()}
