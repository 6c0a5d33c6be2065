"""ImageReward (arXiv 2304.05977): how well a picture follows its prompt and how good it is, as people rank.

THUDM/ImageReward holds ImageReward.pt, which services/reward/convert.py turns into safetensors; its base,
google-bert/bert-base-uncased, has the tokenizer. A folder may name other sizes than those of the published
network in a config.json beside its weights.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from retouche.contract.stages import Score
from retouche.profile import RewardChoice, located
from services.checkpoint import fit, read
from services.diffusion import device
from services.reward.clip import load_tokenizer, stacked
from services.reward.imagereward_network import ImageRewardNetwork, Sizes
from services.reward.judged import Judged
from services.reward.pixels import cropped, standardised
from services.reward.reward_model import RewardModel, images_of, prompts_of, scores

_MEAN, _SD = 0.16717362830052426, 1.0333394966054072  # of raw rewards, as published
_LENGTH = 35  # tokens
_UNUSED = ("blip.vision_proj.", "blip.text_proj.", "blip.text_encoder.embeddings.position_ids")


class _Read(NamedTuple):
    """One prompt and picture as the network reads them."""

    tokens: NDArray[np.int64]  # (T)
    present: NDArray[np.int64]  # (T), 0 for padding
    cut: NDArray[np.uint8]  # (C, H, W)


def load(choice: RewardChoice) -> RewardModel:
    """Raw: what the network answers. Published: standardised, mostly between -2 and 2.

    Raises:
        ModelFailure: the weights are not those of ImageReward.
    """
    tokenizer = load_tokenizer(choice)
    sizes = _sizes(choice.model)
    dtype = getattr(torch, choice.dtype)
    with torch.device("meta"):
        network = ImageRewardNetwork(sizes)
    fit(network, read(choice.model, choice.revision), choice.model, "ImageReward", unused=_UNUSED)
    network.eval().to(device(), dtype).mlp.float()

    def prepare(batch: Sequence[Judged]) -> list[_Read]:
        tokens = tokenizer(
            prompts_of(batch), padding="max_length", truncation=True, max_length=_LENGTH, return_tensors="np"
        )
        cut = cropped(images_of(batch), sizes.image_side)
        return list(map(_Read, tokens.input_ids, tokens.attention_mask, cut))

    @torch.inference_mode()
    def score(batch: Sequence[_Read]) -> list[Score]:
        tokens_BT, present_BT, cut_BCHW = map(stacked, zip(*batch, strict=True))
        raw_B = network(standardised(cut_BCHW / 255).to(dtype), tokens_BT, present_BT.bool())
        return scores(choice, raw_B, (raw_B - _MEAN) / _SD)

    return RewardModel(prepare, score)


def _sizes(model: str) -> Sizes:
    file = Path(located(model)) / "config.json"
    return Sizes.model_validate_json(file.read_text()) if file.is_file() else Sizes()
