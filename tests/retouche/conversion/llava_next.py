"""LLaVA-NeXT's arrangement of LLaVA-OneVision, written out, and small checkpoints in its layout.

After LLaVA-VL/LLaVA-NeXT: siglip_encoder.py (the tower without its last layer), multimodal_projector/
builder.py (mlp2x_gelu), mm_utils.py (process_anyres_image), llava_arch.py (spatial_unpad with anyres_max_9).

Shapes: T tiles, P positions of a tile, H and W positions, D width of the language model, N tokens.
"""

import json
import math
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from safetensors.torch import save_file
from torch.nn.functional import gelu, interpolate, linear
from transformers import Qwen2Config, Qwen2ForCausalLM, SiglipVisionConfig, SiglipVisionModel

from retouche.profile import located

LAYERS_OF_SO400M = 27
SIDE, PATCH = 28, 14  # pixels, of a tile and of a position
TILES = 9  # anyres_max_9
PINPOINTS = [(SIDE * across, SIDE * down) for across in range(1, 7) for down in range(1, 5)]
IMAGE_NEWLINE = "model.image_newline"
PICTURE = -200  # LLaVA-NeXT's stand-in for a picture among token ids
Weights = dict[str, torch.Tensor]

TEXT = Qwen2Config(
    hidden_size=64,
    intermediate_size=48,
    num_hidden_layers=2,
    num_attention_heads=2,  # 32 wide: vLLM has nothing narrower for CPUs
    num_key_value_heads=1,
    vocab_size=944,
    initializer_range=0.2,  # logits far from 0, so that they tell what led to them
    max_position_embeddings=2048,
    rope_parameters={"rope_type": "default", "rope_theta": 1e6},
    tie_word_embeddings=False,
)
VISION = SiglipVisionConfig(
    hidden_size=144,
    intermediate_size=80,
    num_hidden_layers=LAYERS_OF_SO400M,
    num_attention_heads=2,
    image_size=SIDE,
    patch_size=PATCH,
)


@dataclass(frozen=True)
class Original:
    """A small LLaVA-OneVision with random weights, as LLaVA-NeXT arranges it."""

    language: Qwen2ForCausalLM
    tower: SiglipVisionModel  # with all its layers
    first: torch.nn.Linear
    second: torch.nn.Linear
    image_newline: torch.Tensor

    def weights(self) -> Weights:
        """What LLaVA-NeXT saves: the tower without its last layer, and without the head it never had."""
        last = f"encoder.layers.{LAYERS_OF_SO400M - 1}."
        tower = {
            f"model.vision_tower.vision_tower.vision_model.{name.removeprefix('vision_model.')}": tensor
            for name, tensor in self.tower.state_dict().items()
            if last not in name and ".head." not in name and not name.startswith("head.")
        }
        projector = {
            f"model.mm_projector.{place}.{name}": tensor
            for place, part in ((0, self.first), (2, self.second))
            for name, tensor in part.state_dict().items()
        }
        text = dict(self.language.state_dict())
        return {**text, **tower, **projector, IMAGE_NEWLINE: self.image_newline}

    @torch.inference_mode()
    def logits(self, ids: list[int], image: Image.Image) -> torch.Tensor:
        """Logits (N, vocabulary) for token ids with one PICTURE among them."""
        place = ids.index(PICTURE)
        embed = self.language.get_input_embeddings()
        before, after = embed(torch.tensor(ids[:place])), embed(torch.tensor(ids[place + 1 :]))
        embedded_ND = torch.cat([before, self.picture(image), after])
        logits: torch.Tensor = self.language(inputs_embeds=embedded_ND[None]).logits[0]
        return logits

    @torch.inference_mode()
    def picture(self, image: Image.Image) -> torch.Tensor:
        """A picture as the language model reads it, (N, D)."""
        states = self.tower(tiles(image), output_hidden_states=True).hidden_states
        seen_TPC = states[LAYERS_OF_SO400M - 1]  # what the last layer would be given
        features_TPD = linear(gelu(linear(seen_TPC, self.first.weight, self.first.bias)), self.second.weight)
        return self._packed(features_TPD + self.second.bias, image)

    def _packed(self, features_TPD: torch.Tensor, image: Image.Image) -> torch.Tensor:
        """The whole picture, then its tiles put together, without padding, not too many, rows ended."""
        across, down = (length // SIDE for length in best_resolution(image.size))
        side = SIDE // PATCH
        grid_DHW = (
            features_TPD[1:]
            .view(down, across, side, side, -1)
            .permute(4, 0, 2, 1, 3)
            .flatten(1, 2)
            .flatten(2, 3)
        )
        grid_DHW = unpadded(grid_DHW, image.size)
        height, width = grid_DHW.shape[1:]
        times = math.sqrt(height * width / (TILES * side**2))
        if times > 1.1:
            fewer = [int(height // times), int(width // times)]
            grid_DHW = interpolate(grid_DHW[None], fewer, mode="bilinear")[0]
        ends_DH1 = self.image_newline[:, None, None].expand(*grid_DHW.shape[:-1], 1)
        rows_ND = torch.cat([grid_DHW, ends_DH1], dim=-1).flatten(1, 2).T
        return torch.cat([features_TPD[0], rows_ND])


def random_original(dtype: torch.dtype = torch.float32) -> Original:
    torch.manual_seed(0)
    width = TEXT.hidden_size
    first = torch.nn.Linear(VISION.hidden_size, width)
    torch.nn.init.normal_(first.weight, std=0.2)  # so that it shows which GELU follows
    language: Any = Qwen2ForCausalLM(TEXT)  # their `to` is typed as if it took no precision
    tower: Any = SiglipVisionModel(VISION)
    return Original(
        language.to(dtype).eval(),
        tower.to(dtype).eval(),
        first.to(dtype),
        torch.nn.Linear(width, width).to(dtype),
        torch.randn(width, dtype=dtype),
    )


def best_resolution(size: tuple[int, int]) -> tuple[int, int]:
    """Of PINPOINTS the one that keeps most of a picture's pixels and wastes least; width, height."""

    def worth(pinpoint: tuple[int, int]) -> tuple[int, int]:
        scale = min(pinpoint[0] / size[0], pinpoint[1] / size[1])
        kept = min(int(size[0] * scale) * int(size[1] * scale), size[0] * size[1])
        return kept, kept - pinpoint[0] * pinpoint[1]

    return max(PINPOINTS, key=worth)


def tiles(image: Image.Image) -> torch.Tensor:
    """The picture squeezed into one tile, then in its best resolution cut into tiles, (T, 3, SIDE, SIDE)."""
    across, down = best_resolution(image.size)
    scale = min(across / image.width, down / image.height)
    if across / image.width < down / image.height:
        width, height = across, min(math.ceil(image.height * scale), down)
    else:
        width, height = min(math.ceil(image.width * scale), across), down
    padded = Image.new("RGB", (across, down))
    padded.paste(image.resize((width, height)), ((across - width) // 2, (down - height) // 2))
    corners = [(x, y) for y in range(0, down, SIDE) for x in range(0, across, SIDE)]
    cut = [padded.crop((x, y, x + SIDE, y + SIDE)) for x, y in corners]
    pixels = np.stack([np.asarray(tile) for tile in [image.resize((SIDE, SIDE)), *cut]])
    return torch.from_numpy(pixels).permute(0, 3, 1, 2).float() / 127.5 - 1


def unpadded(grid_DHW: torch.Tensor, size: tuple[int, int]) -> torch.Tensor:
    """The positions that show the picture, not what it was padded with."""
    height, width = grid_DHW.shape[1:]
    if size[0] / size[1] > width / height:
        margin = (height - int(size[1] * width / size[0])) // 2
        return grid_DHW[:, margin : height - margin]
    margin = (width - int(size[0] * height / size[1])) // 2
    return grid_DHW[:, :, margin : width - margin]


def picture(size: tuple[int, int]) -> Image.Image:
    """A picture of smooth noise: every pixel counts, and scaling it is not a lottery."""
    width, height = size
    noise = np.random.default_rng(0).integers(0, 256, (height // 8 + 2, width // 8 + 2, 3), dtype=np.uint8)
    return Image.fromarray(noise).resize(size, Image.Resampling.BICUBIC)


def config() -> dict[str, object]:
    """config.json as lmms-lab publishes it."""
    return {
        "architectures": ["LlavaQwenForCausalLM"],
        "model_type": "llava",
        "hidden_act": "silu",
        **{
            name: getattr(TEXT, name)
            for name in (
                "hidden_size intermediate_size num_hidden_layers num_attention_heads num_key_value_heads "
                "vocab_size max_position_embeddings rms_norm_eps"
            ).split()
        },
        "rope_theta": 1e6,
        "tie_word_embeddings": False,
        "torch_dtype": "float32",
        "mm_vision_tower": "google/siglip-so400m-patch14-384",
        "mm_vision_select_layer": -2,
        "mm_projector_type": "mlp2x_gelu",
        "mm_patch_merge_type": "spatial_unpad",
        "image_aspect_ratio": f"anyres_max_{TILES}",
        "image_grid_pinpoints": PINPOINTS,
    }


def write(folder: Path, weights: Weights, shards: int = 2) -> Path:
    """A checkpoint of several files, with the shapes critic's tokenizer."""
    folder.mkdir()
    names = sorted(weights)
    parts = [names[number::shards] for number in range(shards)]
    files = [f"model-{number + 1:05}-of-{shards:05}.safetensors" for number in range(shards)]
    for file, part in zip(files, parts, strict=True):
        save_file({name: weights[name].contiguous() for name in part}, folder / file)
    index = {"weight_map": {name: file for file, part in zip(files, parts, strict=True) for name in part}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    (folder / "config.json").write_text(json.dumps(config()))
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(Path(located("shapes/models/critic")) / name, folder)
    return folder
