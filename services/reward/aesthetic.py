"""The LAION aesthetic predictor v2, sac+logos+ava1-l14-linearMSE: how pleasing a picture is, prompt aside.

christophschuhmann/improved-aesthetic-predictor holds it as a .pth, which services/reward/convert.py turns
into safetensors; its base, openai/clip-vit-large-patch14, sees the picture.
"""

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from retouche.contract.stages import Score
from retouche.profile import RewardChoice
from services.checkpoint import fit, read
from services.diffusion import device
from services.reward import clip
from services.reward.judged import Judged
from services.reward.linear_head import LinearHead
from services.reward.pixels import cropped, standardised
from services.reward.reward_model import RewardModel, images_of, scores


def load(choice: RewardChoice) -> RewardModel:
    """Raw and published: the rating, mostly between 1 and 10.

    Raises:
        ModelFailure: the weights are not those of the predictor, or the base's embeddings do not fit it.
    """
    base, revision = clip.companion(choice, "config.json")
    model = clip.load_model(base, revision, choice.dtype)
    with torch.device("meta"):
        head = LinearHead(model.visual_projection.out_features)
    fit(head, read(choice.model, choice.revision), choice.model, f"an aesthetic predictor over {base}")
    head.eval().to(device(), torch.float32)

    def prepare(batch: Sequence[Judged]) -> list[NDArray[np.uint8]]:
        return cropped(images_of(batch), clip.side(model))

    @torch.inference_mode()
    def score(cut: Sequence[NDArray[np.uint8]]) -> list[Score]:
        pixels_BCHW = standardised(clip.stacked(cut) / 255)
        ratings_B = head(clip.embedded(model, pixels_BCHW))
        return scores(choice, ratings_B, ratings_B)

    return RewardModel(prepare, score)
