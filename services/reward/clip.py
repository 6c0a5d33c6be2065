"""CLIP models as rewards have them: weights, tokenizer and image processor; prompts and pictures embedded.

Shapes: B batch, C channels, H and W pixels, D the width both are projected to.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from PIL import Image
from transformers import AutoTokenizer, CLIPImageProcessorPil, CLIPModel, PreTrainedTokenizerBase

from retouche.contract.stages import Score
from retouche.profile import RewardChoice, located
from services.checkpoint import CONVERT, load_part, require_file
from services.diffusion import device
from services.reward.reward_model import Judged, scores

Pixels = Callable[[list[Image.Image]], torch.Tensor]  # RGB images to (B, C, H, W) as the model reads them


def load_model(model: str, revision: str | None, dtype: str) -> CLIPModel:
    """A CLIPModel on the accelerator if there is one, from a folder or the Hub.

    Raises:
        ModelFailure: its weights are no safetensors, or not all there.
    """
    require_file(model, "config.json")
    clip: CLIPModel = load_part(CLIPModel, model, revision, dtype, way_out=CONVERT)
    return clip


@dataclass(frozen=True)
class Prompts:
    """Prompts to embeddings."""

    model: CLIPModel
    tokenizer: PreTrainedTokenizerBase

    def __call__(self, batch: Sequence[Judged]) -> torch.Tensor:
        """The prompts' embeddings, (B, D), of unit length. Equal ones are all read: see full_batches."""
        tokens = self.tokenizer(
            [judged.prompt for judged in batch],
            padding="max_length",
            truncation=True,
            max_length=self.model.text_model.config.max_position_embeddings,
            return_tensors="pt",
        ).to(device())
        read = self.model.get_text_features(tokens.input_ids, tokens.attention_mask).pooler_output
        return torch.nn.functional.normalize(read.float(), dim=-1)


def load_tokenizer(choice: RewardChoice) -> PreTrainedTokenizerBase:
    """The tokenizer of the base, or of the model's own folder."""
    base, revision = companion(choice, "tokenizer_config.json")
    tokenizer: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(base, revision=revision)
    return tokenizer


def load_prompts(choice: RewardChoice, model: CLIPModel) -> Prompts:
    """A model's prompts by the tokenizer of its base, or of its own folder."""
    return Prompts(model, load_tokenizer(choice))


def load_processor(choice: RewardChoice) -> Pixels:
    """The image processor of the base, or of the model's own folder."""
    base, revision = companion(choice, "preprocessor_config.json")
    processor = CLIPImageProcessorPil.from_pretrained(base, revision=revision)
    return lambda images: processor(images, return_tensors="pt").pixel_values


@dataclass(frozen=True)
class CosineReward:
    """Raw: the cosine of picture and prompt. `published` takes raw scores, (B), to the scale in print."""

    prompts: Prompts
    pixels: Pixels
    published: Callable[[torch.Tensor], torch.Tensor]

    @torch.inference_mode()
    def __call__(self, batch: Sequence[Judged]) -> list[Score]:
        pixels_BCHW = self.pixels([judged.image for judged in batch])
        raw_B = (self.prompts(batch) * embedded(self.prompts.model, pixels_BCHW)).sum(-1)
        return scores(raw_B, self.published(raw_B))

    @torch.inference_mode()
    def features(self, images: Sequence[Image.Image]) -> list[list[float]]:
        """Each picture's embedding, (D), of its own length."""
        found: list[list[float]] = seen(self.prompts.model, self.pixels(list(images))).tolist()
        return found


def seen(model: CLIPModel, pixels_BCHW: torch.Tensor) -> torch.Tensor:
    """The pictures' embeddings, (B, D)."""
    embeddings: torch.Tensor = model.get_image_features(pixels_BCHW.to(device(), model.dtype)).pooler_output
    return embeddings.float()


def embedded(model: CLIPModel, pixels_BCHW: torch.Tensor) -> torch.Tensor:
    """The pictures' embeddings, (B, D), of unit length."""
    return torch.nn.functional.normalize(seen(model, pixels_BCHW), dim=-1)


def side(model: CLIPModel) -> int:
    """Width and height in pixels of the pictures that the model sees."""
    return int(model.vision_model.config.image_size)


def companion(choice: RewardChoice, file: str) -> tuple[str, str]:
    """Folder or Hub id, and revision, of what the weights come without.

    Raises:
        ModelFailure: it is a folder, and has no such file.
    """
    named, revision = choice.model, choice.revision
    if choice.base is not None:
        named, revision = choice.base, choice.base_revision
    require_file(named, file)
    return located(named), revision or "main"
