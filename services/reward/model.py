"""The profile's reward models, each loaded once."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

from PIL import Image

from retouche.images import decode
from retouche.profile import RewardChoice
from services.full_batches import in_full_batches
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


def steps(rewards: dict[str, RewardChoice]) -> dict[str, Step[Any, Any, Any]]:
    """What the service asks of them, about stored images.

    NAME scores what is stored, NAME/features places where the model can; both in calls of one size.
    """
    found: dict[str, Step[Any, Any, Any]] = {}
    for name, model in load(rewards).items():
        size = rewards[name].max_batch
        found[name] = Step(partial(_judged, model), in_full_batches(model.run, size))
        if model.features is not None:
            place = in_full_batches(model.features.run, size)
            found[f"{name}/features"] = Step(partial(_decoded, model.features), place)
    return found


def _judged(model: RewardModel, batch: Sequence[Encoded]) -> list[Any]:
    return model.prepare([Judged(encoded.prompt, decode(encoded.image)) for encoded in batch])


def _decoded(features: Step[Image.Image, Any, Any], batch: Sequence[bytes]) -> list[Any]:
    return features.prepare([decode(image) for image in batch])
