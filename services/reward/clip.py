"""A CLIP model as a reward: the cosine between an image and its prompt."""

from collections.abc import Sequence

import torch
from transformers import AutoTokenizer, CLIPImageProcessorPil, CLIPModel

from retouche.contract.stages import Score
from services.diffusion import device
from services.reward.reward_model import Judged, RewardModel
from serving.profile import RewardChoice, located


def load(choice: RewardChoice) -> RewardModel:
    """The reward model of a CLIPModel folder with its tokenizer and image processor."""
    folder = located(choice.model)
    dtype = getattr(torch, choice.dtype)
    model = CLIPModel.from_pretrained(
        folder, use_safetensors=True, dtype=dtype, revision=choice.revision or "main"
    )
    model.eval().to(device())
    tokenizer = AutoTokenizer.from_pretrained(folder)
    processor = CLIPImageProcessorPil.from_pretrained(folder)
    length = int(model.text_model.config.max_position_embeddings)

    @torch.inference_mode()
    def score(batch: Sequence[Judged]) -> list[Score]:
        """Raw: the cosine. Published: times the temperature, as PickScore's paper prints it."""
        tokens = tokenizer(
            [judged.prompt for judged in batch],
            padding="max_length",
            truncation=True,
            max_length=length,
            return_tensors="pt",
        ).to(device())
        pixels = processor([judged.image for judged in batch], return_tensors="pt").pixel_values
        texts = model.get_text_features(tokens.input_ids, tokens.attention_mask).pooler_output
        images = model.get_image_features(pixels.to(device(), dtype)).pooler_output
        cosines = torch.nn.functional.cosine_similarity(texts.float(), images.float())
        published = cosines * model.logit_scale.exp().float()
        return [
            Score(raw=raw, published=scaled)
            for raw, scaled in zip(cosines.tolist(), published.tolist(), strict=True)
        ]

    return score
