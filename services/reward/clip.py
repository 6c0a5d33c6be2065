"""CLIP models as rewards have them: weights, tokenizer and image processor; prompts and pictures embedded.

Shapes: B batch, C channels, H and W pixels, D the width both are projected to.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from PIL import Image
from safetensors import SafetensorError
from transformers import AutoTokenizer, CLIPImageProcessorPil, CLIPModel, PreTrainedTokenizerBase
from transformers.utils import logging

from retouche.contract.stages import Score
from retouche.profile import RewardChoice, located
from services.checkpoint import require_all, require_file, unreadable
from services.diffusion import device
from services.reward.reward_model import Judged, scores

Pixels = Callable[[list[Image.Image]], torch.Tensor]  # RGB images to (B, C, H, W) as the model reads them


def load_model(model: str, revision: str | None, dtype: str, **parts: Any) -> CLIPModel:
    """A CLIPModel on the accelerator if there is one, from a folder or the Hub.

    With `state_dict` and `config` in `parts`, from those; `model` then only says whose they are.

    Raises:
        ModelFailure: its weights are no safetensors, or not all there.
    """
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    source = None if "state_dict" in parts else located(model)
    if source is not None:
        require_file(source, "config.json")
    from_pretrained: Any = CLIPModel.from_pretrained  # typed as if it never gave a report
    clip: CLIPModel
    try:
        clip, report = from_pretrained(
            source,
            revision=revision or "main",
            dtype=getattr(torch, dtype),
            device_map={"": device()},
            use_safetensors=True,
            output_loading_info=True,
            ignore_mismatched_sizes=True,  # so that they are reported, with all other faults
            **parts,
        )
    except (OSError, SafetensorError) as error:
        raise unreadable(model, error) from None
    require_all(
        model,
        "its CLIPModel",
        missing=report["missing_keys"],
        unknown=report["unexpected_keys"],
        misshapen={name: (found, needed) for name, found, needed in report["mismatched_keys"]},
    )
    clip.eval()
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
