"""The parts of a base that turn images and prompts into what its UNet takes, loaded when first needed."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from PIL import Image
from transformers import (
    AutoTokenizer,
    CLIPImageProcessorPil,
    CLIPModel,
    CLIPTextModel,
    CLIPTextModelWithProjection,
)
from transformers.utils.hub import cached_file

from retouche.errors import BadRequest
from retouche.identity import identify, together
from trainer.refusal import refused
from trainer.whole import load_whole

_RELATION_MODEL = "objective.relation_model"
# What reads prompts and images, and what to do where it is not there, by the field that names it.
_NEEDED = {
    "base": ("tokenizer", "name a whole pipeline"),
    _RELATION_MODEL: (
        "tokenizer and image processor",
        "as objective.relation_base name the folder or Hub id that the model was trained from",
    ),
}


@dataclass(frozen=True)
class Encoders:
    """Autoencoder and text encoders of a Stable Diffusion 1.5 or XL pipeline, folder or Hub id."""

    base: str
    revision: str | None = None

    @cached_property
    def vae_identity(self) -> str:
        return _identity(self.base, "vae", self.revision) + f"-{self.resolution}"

    @cached_property
    def text_identity(self) -> str:
        parts = [f"{part}{suffix}" for suffix in self._suffixes for part in ("tokenizer", "text_encoder")]
        return _short("\n".join(_identity(self.base, part, self.revision) for part in parts))

    @cached_property
    def _unet(self) -> dict[str, Any]:
        return dict(UNet2DConditionModel.load_config(self.base, subfolder="unet", revision=self.revision))

    @cached_property
    def is_xl(self) -> bool:
        """Two text encoders, a pooled prompt and time ids."""
        return self._unet.get("addition_embed_type") == "text_time"

    @cached_property
    def resolution(self) -> int:
        """The side in pixels that the base was made for."""
        config = AutoencoderKL.load_config(self.base, subfolder="vae", revision=self.revision)
        return int(self._unet["sample_size"]) << (len(config["block_out_channels"]) - 1)

    @cached_property
    def _vae(self) -> AutoencoderKL:
        vae: AutoencoderKL = load_whole(AutoencoderKL, self.base, self.revision, torch.float32, "vae")
        vae.enable_slicing()  # an image at a time: at 1024 pixels, in float32, one takes gigabytes
        return vae.eval().to(_device())

    @cached_property
    def _suffixes(self) -> tuple[str, ...]:
        """Of the folders of tokenizers and text encoders."""
        return ("", "_2") if self.is_xl else ("",)

    @cached_property
    def _tokenizers(self) -> list[Any]:
        revision = self.revision or "main"
        return [
            read_tokenizer(self.base, revision, f"tokenizer{suffix}", "base") for suffix in self._suffixes
        ]

    @cached_property
    def _text_encoders(self) -> list[Any]:
        kinds = (CLIPTextModel, CLIPTextModelWithProjection)
        return [
            load_whole(kind, self.base, self.revision, torch.float32, f"text_encoder{suffix}")
            .eval()
            .to(_device())
            for kind, suffix in zip(kinds, self._suffixes, strict=False)
        ]

    def check(self) -> None:
        """Refuse a base whose prompts cannot be read; its weights are read when first needed.

        Raises:
            BadRequest: a tokenizer cannot be read or knows no words; says which.
        """
        _ = self._tokenizers

    def unload(self) -> None:
        """Give the models' memory back; what needs one again loads it again."""
        for name in ("_vae", "_text_encoders"):
            self.__dict__.pop(name, None)

    @torch.no_grad()
    def encode(self, images: Sequence[Image.Image]) -> list[dict[str, torch.Tensor]]:
        """Scaled latents (C, H, W) of every image, the mode of their distribution, so that they never change.

        Images are scaled and cut to the base's resolution; `time_ids` (6,) say how, as SDXL wants to know.
        """
        pixels = torch.stack([_pixels(image, self.resolution) for image in images]).to(_device())
        config = self._vae.config
        shift = getattr(config, "shift_factor", None) or 0.0
        latents = (self._vae.encode(pixels).latent_dist.mode() - shift) * config.scaling_factor
        side = self.resolution
        return [
            {
                "latents": latent.cpu().contiguous(),
                "time_ids": torch.tensor([image.height, image.width, *_cut(image, side), side, side]).float(),
            }
            for latent, image in zip(latents, images, strict=True)
        ]

    @torch.no_grad()
    def embed(self, prompts: Sequence[str]) -> list[dict[str, torch.Tensor]]:
        """What the UNet reads of every prompt: `hidden` (L, D) and, for SDXL, `pooled` (P,)."""
        hidden, pooled = [], None
        for tokenizer, encoder in zip(self._tokenizers, self._text_encoders, strict=True):
            tokens = tokenizer(
                list(prompts),
                padding="max_length",
                truncation=True,
                max_length=tokenizer.model_max_length,
                return_tensors="pt",
            ).input_ids.to(_device())
            if not self.is_xl:
                hidden.append(encoder(tokens)[0])
                continue
            output = encoder(tokens, output_hidden_states=True)
            hidden.append(output.hidden_states[-2])
            pooled = output[0]
        joined = torch.cat(hidden, dim=-1).cpu()
        if pooled is None:
            return [{"hidden": row} for row in joined]
        return [{"hidden": row, "pooled": one} for row, one in zip(joined, pooled.cpu(), strict=True)]


@dataclass(frozen=True)
class RelationModel:
    """A CLIPModel, folder or Hub id, that says how near two images with their prompts are.

    `base`: where its tokenizer and image processor lie, if not beside its weights.
    """

    model: str
    revision: str | None = None
    base: str | None = None
    base_revision: str | None = None

    @cached_property
    def identity(self) -> str:
        weights = identify(self.model, self.revision)
        if self.base is None:
            return _short(str(weights))
        return _short(str(together(weights, identify(self.base, self.base_revision))))

    @cached_property
    def _clip(self) -> Any:
        clip: Any = load_whole(CLIPModel, self.model, self.revision, torch.float32, field=_RELATION_MODEL)
        return clip.eval().to(_device())

    @cached_property
    def _readers(self) -> tuple[Any, CLIPImageProcessorPil]:
        """Of prompts and of images."""
        named, revision = self.model, self.revision or "main"
        if self.base is not None:
            named, revision = self.base, self.base_revision or "main"
        tokenizer = read_tokenizer(named, revision, "", _RELATION_MODEL)
        try:
            processor = CLIPImageProcessorPil.from_pretrained(named, revision=revision)
        except (OSError, ValueError) as error:
            raise _cannot_read(_RELATION_MODEL, named, str(error)) from None
        return tokenizer, processor

    def check(self) -> None:
        """Refuse a model without tokenizer or image processor; its weights are read when first needed.

        Raises:
            BadRequest: one of them cannot be read; says where it was looked for.
        """
        _ = self._readers

    def unload(self) -> None:
        """Give the model's memory back; what needs it again loads it again."""
        self.__dict__.pop("_clip", None)

    @torch.no_grad()
    def embed(self, prompts: Sequence[str], images: Sequence[Image.Image]) -> list[dict[str, torch.Tensor]]:
        """`relation` (E,): the unit vectors of prompt and image side by side, a unit vector again.

        So the cosine of two of them is the mean of the prompts' and the images' cosines.
        """
        tokenizer, processor = self._readers
        tokens = tokenizer(
            list(prompts),
            padding="max_length",
            truncation=True,
            max_length=int(self._clip.text_model.config.max_position_embeddings),
            return_tensors="pt",
        ).to(_device())
        pixels = processor(list(images), return_tensors="pt").pixel_values.to(_device())
        texts = self._clip.get_text_features(tokens.input_ids, tokens.attention_mask).pooler_output
        pictures = self._clip.get_image_features(pixels).pooler_output
        sides = [torch.nn.functional.normalize(side, dim=-1) for side in (texts, pictures)]
        return [{"relation": row} for row in (torch.cat(sides, dim=-1) / 2**0.5).cpu()]


def read_tokenizer(named: str, revision: str, subfolder: str, field: str) -> Any:
    """The tokenizer in `subfolder` of a folder or Hub id, which the run names as `field`.

    Raises:
        BadRequest: it is not there, lacks a file or knows no words; says where it was looked for.
    """
    place = f"{named}/{subfolder}" if subfolder else named
    try:
        cached_file(named, "tokenizer_config.json", subfolder=subfolder, revision=revision)
        tokenizer = AutoTokenizer.from_pretrained(named, subfolder=subfolder, revision=revision)
    except (OSError, ValueError, KeyError) as error:
        raise _cannot_read(field, place, str(error)) from None
    if len(tokenizer) <= len(set(tokenizer.all_special_ids)):  # as transformers makes it without files
        raise _cannot_read(field, place, "its tokenizer has no vocabulary")
    return tokenizer


def _cannot_read(field: str, place: str, problem: str) -> BadRequest:
    needed, remedy = _NEEDED[field]
    return refused(field, f"{place} gives no {needed} ({problem}); {remedy}")


def _pixels(image: Image.Image, side: int) -> torch.Tensor:
    """(3, side, side) in [-1, 1]: scaled so that the shorter side fits, then the middle."""
    left, top = _cut(image, side)[::-1]
    scaled = image
    if min(image.size) != side:
        scaled = image.resize(_scaled(image, side), Image.Resampling.LANCZOS)
    cut = scaled.crop((left, top, left + side, top + side))
    return torch.from_numpy(np.array(cut.convert("RGB"))).permute(2, 0, 1).float() / 127.5 - 1


def _scaled(image: Image.Image, side: int) -> tuple[int, int]:
    factor = side / min(image.size)
    return max(side, round(image.width * factor)), max(side, round(image.height * factor))


def _cut(image: Image.Image, side: int) -> tuple[int, int]:
    """How many pixels of the scaled image lie above and left of its middle square."""
    width, height = _scaled(image, side)
    return (height - side) // 2, (width - side) // 2


def _identity(base: str, part: str, revision: str | None) -> str:
    folder = Path(base) / part
    if folder.is_dir():
        return identify(str(folder)).revision
    return _short(f"{identify(base, revision)}/{part}")


def _short(identity: str) -> str:
    return sha256(identity.encode()).hexdigest()[:12]


def _device() -> torch.device:
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")
