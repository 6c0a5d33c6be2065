"""ImageReward (arXiv 2304.05977): how well a picture follows its prompt and how good it is, as people rank.

THUDM/ImageReward holds ImageReward.pt, which services/reward/convert.py turns into safetensors; its base,
google-bert/bert-base-uncased, has the tokenizer. A folder may name other sizes than those of the published
network in a config.json beside its weights.
"""

from collections.abc import Sequence
from pathlib import Path

import torch
from transformers import BatchEncoding

from retouche.contract.stages import Score
from retouche.profile import RewardChoice, located
from services.checkpoint import fit, read
from services.diffusion import device
from services.reward.clip import load_tokenizer
from services.reward.imagereward_network import ImageRewardNetwork, Sizes
from services.reward.judged import Judged
from services.reward.pixels import cropped
from services.reward.reward_model import RewardModel, images_of, prompts_of, scores

_MEAN, _SD = 0.16717362830052426, 1.0333394966054072  # of raw rewards, as published
_LENGTH = 35  # tokens
_UNUSED = ("blip.vision_proj.", "blip.text_proj.", "blip.text_encoder.embeddings.position_ids")


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

    def prepare(batch: Sequence[Judged]) -> tuple[BatchEncoding, torch.Tensor]:
        tokens = tokenizer(
            prompts_of(batch),
            padding="max_length",
            truncation=True,
            max_length=_LENGTH,
            return_tensors="pt",
        )
        return tokens, cropped(images_of(batch), sizes.image_side)

    @torch.inference_mode()
    def score(prepared: tuple[BatchEncoding, torch.Tensor]) -> list[Score]:
        tokens, pixels_BCHW = prepared[0].to(device()), prepared[1].to(device(), dtype)
        raw_B = network(pixels_BCHW, tokens.input_ids, tokens.attention_mask.bool())
        return scores(raw_B, (raw_B - _MEAN) / _SD)

    return RewardModel(prepare, score)


def _sizes(model: str) -> Sizes:
    file = Path(located(model)) / "config.json"
    return Sizes.model_validate_json(file.read_text()) if file.is_file() else Sizes()
