"""CLIP models as rewards have them: weights, tokenizer and image processor; prompts and pictures embedded.

Shapes: B batch, C channels, H and W pixels, D the width both are projected to.
"""

from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import chain
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from transformers import AutoTokenizer, CLIPImageProcessorPil, CLIPModel, PreTrainedTokenizerBase

from retouche.contract.stages import Score
from retouche.profile import RewardChoice, located
from services.checkpoint import CONVERT, load_part, require_file
from services.diffusion import device
from services.reward.judged import Judged
from services.reward.pixels import channels_first, standardised
from services.reward.reward_model import RewardModel, images_of, prompts_of, require_finite, scores
from serving.steps import Step

_PROMPTS_REMEMBERED = 4096  # 12 MB where a model has 768 dimensions


@dataclass(frozen=True)
class Reading:
    """RGB images to what the model reads in two parts, with as few bytes as can be between them.

    `cut` makes a (C, H, W) array of each image, `standardised` the pixels, (B, C, H, W), of all.
    """

    cut: Callable[[Sequence[Image.Image]], list[NDArray[Any]]]
    standardised: Callable[[torch.Tensor], torch.Tensor]


def load_model(model: str, revision: str | None, dtype: str) -> CLIPModel:
    """A CLIPModel on the accelerator if there is one, from a folder or the Hub.

    Raises:
        ModelFailure: its weights are no safetensors, or not all there.
    """
    require_file(model, "config.json")
    clip: CLIPModel = load_part(CLIPModel, model, revision, dtype, way_out=CONVERT)
    return clip


class Prompts:
    """Prompts to embeddings; the last ones are remembered: a prompt is asked about once for each picture."""

    def __init__(self, model: CLIPModel, tokenizer: PreTrainedTokenizerBase) -> None:
        self.model = model
        self._tokenizer = tokenizer
        self._remembered: OrderedDict[str, torch.Tensor] = OrderedDict()

    def __call__(self, prompts: list[str]) -> torch.Tensor:
        """The embeddings, (B, D), of unit length."""
        missing = [prompt for prompt in prompts if prompt not in self._remembered]
        if missing:
            filled = [*missing, *prompts][: len(prompts)]  # always as many: see full_batches
            for prompt, embedding_D in zip(filled, self._embedded(filled), strict=True):
                self._remembered[prompt] = embedding_D.clone()  # or it would keep the whole batch
        embeddings_BD = torch.stack([self._remembered[prompt] for prompt in prompts])
        for prompt in prompts:
            self._remembered.move_to_end(prompt)
        while len(self._remembered) > _PROMPTS_REMEMBERED:
            self._remembered.popitem(last=False)
        return embeddings_BD

    def _embedded(self, prompts: list[str]) -> torch.Tensor:
        tokens = self._tokenizer(
            prompts,
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


def load_processor(choice: RewardChoice) -> Reading:
    """The image processor of the base, or of the model's own folder."""
    base, revision = companion(choice, "preprocessor_config.json")
    processor = CLIPImageProcessorPil.from_pretrained(base, revision=revision)

    def read(cut_BCHW: torch.Tensor) -> torch.Tensor:
        # All at once: the processor does it one by one, which takes as long as all its other work.
        return standardised(cut_BCHW * processor.rescale_factor, processor.image_mean, processor.image_std)

    return Reading(partial(_cut, processor), read)


def _cut(processor: CLIPImageProcessorPil, images: Sequence[Image.Image]) -> list[NDArray[Any]]:
    """Images resized and cropped, bytes."""
    side = processor.crop_size["height"]
    sides = (side, processor.crop_size["width"], processor.size.get("shortest_edge"))
    if {*sides, *(length for image in images for length in image.size)} == {side}:
        # The processor would take a tenth of a millisecond for each picture to leave it as it is.
        return [channels_first(image) for image in images]
    cut = processor(list(images), return_tensors="np", do_rescale=False, do_normalize=False)
    return list(cut.pixel_values)


def stacked(arrays: Sequence[NDArray[Any]]) -> torch.Tensor:
    """A batch on the accelerator if there is one."""
    return torch.from_numpy(np.stack(arrays)).to(device())


def cosine_reward(
    choice: RewardChoice,
    prompts: Prompts,
    reading: Reading,
    published: Callable[[torch.Tensor], torch.Tensor],
) -> RewardModel:
    """Raw: the cosine of picture and prompt. `published` takes raw scores, (B), to the scale in print."""
    model = prompts.model

    def prepare(batch: Sequence[Judged]) -> list[tuple[str, NDArray[Any]]]:
        return list(zip(prompts_of(batch), reading.cut(images_of(batch)), strict=True))

    @torch.inference_mode()
    def score(prepared: Sequence[tuple[str, NDArray[Any]]]) -> list[Score]:
        texts, cut = zip(*prepared, strict=True)
        pixels_BCHW = reading.standardised(stacked(cut))
        raw_B = (prompts(list(texts)) * embedded(model, pixels_BCHW)).sum(-1)
        return scores(choice, raw_B, published(raw_B))

    @torch.inference_mode()
    def place(cut: Sequence[NDArray[Any]]) -> list[list[float]]:
        """Each picture's embedding, (D), of its own length."""
        found: list[list[float]] = seen(model, reading.standardised(stacked(cut))).tolist()
        require_finite(choice, chain.from_iterable(found))
        return found

    return RewardModel(prepare, score, features=Step(reading.cut, place))


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
