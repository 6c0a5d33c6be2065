"""The profile's reward models, each loaded once."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from retouche.contract.stages import Score
from retouche.images import decode
from retouche.profile import RewardChoice
from services.full_batches import filled
from services.reward import aesthetic, clipscore, hpsv2, imagereward, pickscore
from services.reward.judged import Encoded, Judged
from services.reward.reward_model import RewardModel
from serving.steps import Step

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


def steps(rewards: dict[str, RewardChoice]) -> dict[str, Step[Any, Any]]:
    """What the service asks of them: NAME scores what is stored, NAME/features places where the model can."""
    models = load(rewards)
    features = {f"{name}/features": model.features for name, model in models.items()}
    return {
        **{name: _of_stored(model, rewards[name].max_batch) for name, model in models.items()},
        **{name: step for name, step in features.items() if step is not None},
    }


def _of_stored(model: RewardModel, size: int) -> Step[Encoded, Score]:
    """`model` on images as they are stored, always `size` of them: see full_batches."""

    def prepare(batch: Sequence[Encoded]) -> tuple[int, Any]:
        judged = [Judged(encoded.prompt, decode(encoded.image)) for encoded in batch]
        return len(batch), model.prepare(filled(judged, size))

    def run(prepared: tuple[int, Any]) -> list[Score]:
        wanted, full = prepared
        return model.run(full)[:wanted]

    return Step(prepare, run)
