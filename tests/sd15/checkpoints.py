"""The whole of `sd15` as folders: published configurations, published tensors as files full of holes."""

import json
import shutil
import struct
from math import prod
from pathlib import Path

import yaml
from transformers import CLIPImageProcessorPil

from retouche.profile import FOLDER as PROFILES
from tests.sd15 import diffusion_tensors, reader_tensors
from tests.services.published import (
    LENGTH,
    BlipSizes,
    ClipSizes,
    Shapes,
    bert_tokenizer,
    clip_shapes,
    clip_tokenizer,
    image_reward_shapes,
    linear_head_shapes,
    open_clip_shapes,
)

CONFIGS = Path(__file__).parent / "configs"
_BYTES = {"F32": 4, "F16": 2, "BF16": 2, "I64": 8}
_POSITIONS = {"text_model.embeddings.position_ids": (1, 77), "vision_model.embeddings.position_ids": (1, 257)}
CLIP_H = ClipSizes(1024, 24, 1280, 32, 1024, 14, 49_408)
CLIP_L = ClipSizes(768, 12, 1024, 24, 768, 14, 49_408)
BLIP = BlipSizes(1024, 24, 768, 12, 512, 16, 30_524, 256)
WEIGHTS = {  # by the names that the profile has: file, tensors, precision
    "stable-diffusion-v1-5/stable-diffusion-v1-5": {
        "unet/diffusion_pytorch_model": (diffusion_tensors.unet(), "F32"),
        "vae/diffusion_pytorch_model": (diffusion_tensors.vae(), "F32"),
        "text_encoder/model": (diffusion_tensors.text_encoder(), "F32"),
    },
    "lllyasviel/control_v11e_sd15_ip2p": {"diffusion_pytorch_model": (diffusion_tensors.controlnet(), "F32")},
    "models/llava-critic-7b": {"model": (reader_tensors.llava_critic(), "BF16")},
    "Qwen/Qwen2.5-VL-7B-Instruct": {"model": (reader_tensors.qwen(), "BF16")},
    "yuvalkirstain/PickScore_v1": {"model": (clip_shapes(CLIP_H) | _POSITIONS, "F32")},
    "openai/clip-vit-large-patch14": {"model": (clip_shapes(CLIP_L) | _POSITIONS, "F32")},
    "models/ImageReward": {"model": (image_reward_shapes(BLIP), "F32")},
    "models/HPSv2": {"model": (open_clip_shapes(CLIP_H), "F16")},
    "models/aesthetic": {"model": (linear_head_shapes(768), "F32")},
}
_CONFIGURED = {
    "stable-diffusion-v1-5/stable-diffusion-v1-5": "stable-diffusion-v1-5",
    "lllyasviel/control_v11e_sd15_ip2p": "control_v11e_sd15_ip2p",
    "models/llava-critic-7b": "llava-critic-7b",
    "Qwen/Qwen2.5-VL-7B-Instruct": "Qwen2.5-VL-7B-Instruct",
    "yuvalkirstain/PickScore_v1": "CLIP-ViT-H-14",
    "laion/CLIP-ViT-H-14-laion2B-s32B-b79K": "CLIP-ViT-H-14",
    "openai/clip-vit-large-patch14": "clip-vit-large-patch14",
    "models/ImageReward": None,  # the service knows the published sizes
    "models/HPSv2": None,
    "models/aesthetic": None,
    "google-bert/bert-base-uncased": None,
}


def write_sd15(folder: Path) -> Path:
    """Every model of the profile below `folder`, and the profile that names them there: its path."""
    for model, config in _CONFIGURED.items():
        if config is not None:
            shutil.copytree(CONFIGS / config, folder / model)
        for file, (shapes, dtype) in WEIGHTS.get(model, {}).items():
            write_holes(folder / model / f"{file}.safetensors", shapes, dtype)
    _write_tokenizers(folder)
    text = (PROFILES / "sd15.yaml").read_text()
    for model in _CONFIGURED:
        text = text.replace(f" {model}\n", f" {folder / model}\n")
    path = folder / "sd15.yaml"
    path.write_text(text)
    assert set(_named(yaml.safe_load(text))) == {str(folder / model) for model in _CONFIGURED}
    return path


def write_holes(file: Path, shapes: Shapes, dtype: str) -> None:
    """A safetensors file of full size that takes no room: its tensors were never written."""
    header: dict[str, object] = {}
    end = 0
    for name, shape in shapes.items():
        kind = "I64" if name.endswith("position_ids") else dtype
        start, end = end, end + prod(shape) * _BYTES[kind]
        header[name] = {"dtype": kind, "shape": shape, "data_offsets": (start, end)}
    text = json.dumps(header).encode()
    file.parent.mkdir(parents=True, exist_ok=True)
    with file.open("wb") as opened:
        opened.write(struct.pack("<Q", len(text)) + text)
        opened.truncate(8 + len(text) + end)


def _write_tokenizers(folder: Path) -> None:
    """Not the published vocabularies, which are no configuration: letters alone."""
    clip = clip_tokenizer()
    clip.model_max_length = LENGTH
    clip.save_pretrained(folder / "stable-diffusion-v1-5/stable-diffusion-v1-5/tokenizer")
    for base in ("laion/CLIP-ViT-H-14-laion2B-s32B-b79K", "openai/clip-vit-large-patch14"):
        clip.save_pretrained(folder / base)
        CLIPImageProcessorPil().save_pretrained(folder / base)
    bert_tokenizer().save_pretrained(folder / "google-bert/bert-base-uncased")


def _named(part: object) -> list[str]:
    """Every model, ControlNet and base of a profile."""
    if not isinstance(part, dict):
        return []
    names = [value for key, value in part.items() if key in ("model", "controlnet", "base")]
    return names + [name for value in part.values() for name in _named(value)]
