"""Reward checkpoints as they are published, at a reduced width: key names and shapes written out by hand."""

import json
from dataclasses import dataclass
from pathlib import Path
from string import ascii_lowercase
from typing import Any

import numpy as np
import torch
from PIL import Image
from safetensors.torch import save_file
from transformers import BertTokenizer, CLIPConfig, CLIPImageProcessorPil, CLIPTokenizer

Shapes = dict[str, tuple[int, ...]]
Weights = dict[str, torch.Tensor]

TEXT_WIDTH, TEXT_LAYERS, TEXT_HEADS = 64, 2, 4
VISION_WIDTH, VISION_LAYERS, VISION_HEADS = 96, 3, 4
EMBEDDING, PATCH, SIDE, LENGTH = 48, 32, 224, 77
TOKENS = [letter + end for end in ("", "</w>") for letter in ascii_lowercase] + [
    "<|startoftext|>",
    "<|endoftext|>",
]
BLIP_VISION_WIDTH, BLIP_TEXT_WIDTH, BERT_POSITIONS = 192, 128, 40
BERT_TOKENS = "[PAD] [UNK] [CLS] [SEP] [MASK] a red blue circle square above".split()
PROMPTS = ("a red circle above a blue square", "a blue square", "a blue circle above " * 40)


@dataclass(frozen=True)
class ClipSizes:
    """Of a CLIPModel; the defaults are the reduced ones."""

    text_width: int = TEXT_WIDTH
    text_layers: int = TEXT_LAYERS
    vision_width: int = VISION_WIDTH
    vision_layers: int = VISION_LAYERS
    embedding: int = EMBEDDING
    patch: int = PATCH
    tokens: int = len(TOKENS)

    @property
    def positions(self) -> int:
        return (SIDE // self.patch) ** 2 + 1


@dataclass(frozen=True)
class BlipSizes:
    """Of ImageReward; the defaults are the reduced ones."""

    vision_width: int = BLIP_VISION_WIDTH
    vision_layers: int = VISION_LAYERS
    text_width: int = BLIP_TEXT_WIDTH
    text_layers: int = TEXT_LAYERS
    text_positions: int = BERT_POSITIONS
    patch: int = PATCH
    tokens: int = len(BERT_TOKENS)
    projection: int = 32


def pictures() -> list[Image.Image]:
    """Wide, tall, square, smaller than what models read; one whose margins are odd."""
    rng = np.random.default_rng(0)
    sizes = [(300, 200), (224, 299), (240, 512), (224, 224), (64, 48), (700, 90)]
    rough = [rng.integers(0, 256, (8, 8, 3), np.uint8) for _ in sizes]
    return [
        Image.fromarray(each).resize(size, Image.Resampling.NEAREST)
        for each, size in zip(rough, sizes, strict=True)
    ]


def random_weights(shapes: Shapes, seed: int = 0) -> Weights:
    """Weights under which what goes in matters to what comes out; norms near one."""
    generator = torch.Generator().manual_seed(seed)
    made = {name: torch.randn(shape, generator=generator) for name, shape in shapes.items()}
    return {name: _scaled(name, tensor) for name, tensor in made.items()}


def _scaled(name: str, tensor: torch.Tensor) -> torch.Tensor:
    if tensor.dim() == 0:
        return torch.tensor(3.0)
    if tensor.dim() == 1:
        return 0.1 * tensor + (1.0 if name.endswith("weight") else 0.0)
    return tensor * (1.5 / tensor[0].numel() ** 0.5 if "embed" not in name else 0.5)


def clip_shapes(sizes: ClipSizes = ClipSizes()) -> Shapes:
    """A CLIPModel as transformers saves it: PickScore_v1, clip-vit-large-patch14."""
    shapes: Shapes = {
        "logit_scale": (),
        "text_model.embeddings.token_embedding.weight": (sizes.tokens, sizes.text_width),
        "text_model.embeddings.position_embedding.weight": (LENGTH, sizes.text_width),
        "text_projection.weight": (sizes.embedding, sizes.text_width),
        "vision_model.embeddings.class_embedding": (sizes.vision_width,),
        "vision_model.embeddings.patch_embedding.weight": (sizes.vision_width, 3, sizes.patch, sizes.patch),
        "vision_model.embeddings.position_embedding.weight": (sizes.positions, sizes.vision_width),
        "visual_projection.weight": (sizes.embedding, sizes.vision_width),
    }
    for name in ("text_model.final_layer_norm", "vision_model.pre_layrnorm", "vision_model.post_layernorm"):
        shapes |= norm(name, sizes.text_width if name.startswith("text") else sizes.vision_width)
    towers = (
        ("text_model", sizes.text_width, sizes.text_layers),
        ("vision_model", sizes.vision_width, sizes.vision_layers),
    )
    for tower, width, layers in towers:
        for layer in (f"{tower}.encoder.layers.{number}" for number in range(layers)):
            for name in ("q_proj", "k_proj", "v_proj", "out_proj"):
                shapes |= linear(f"{layer}.self_attn.{name}", width, width)
            shapes |= linear(f"{layer}.mlp.fc1", width, 4 * width) | linear(
                f"{layer}.mlp.fc2", 4 * width, width
            )
            shapes |= norm(f"{layer}.layer_norm1", width) | norm(f"{layer}.layer_norm2", width)
    return shapes


def open_clip_shapes(sizes: ClipSizes = ClipSizes()) -> Shapes:
    """The same model as open_clip saves it: HPS_v2.1_compressed.pt."""
    shapes: Shapes = {
        "logit_scale": (),
        "positional_embedding": (LENGTH, sizes.text_width),
        "text_projection": (sizes.text_width, sizes.embedding),
        "token_embedding.weight": (sizes.tokens, sizes.text_width),
        "visual.class_embedding": (sizes.vision_width,),
        "visual.positional_embedding": (sizes.positions, sizes.vision_width),
        "visual.proj": (sizes.vision_width, sizes.embedding),
        "visual.conv1.weight": (sizes.vision_width, 3, sizes.patch, sizes.patch),
    }
    shapes |= norm("visual.ln_pre", sizes.vision_width) | norm("visual.ln_post", sizes.vision_width)
    shapes |= norm("ln_final", sizes.text_width)
    towers = (
        ("transformer", sizes.text_width, sizes.text_layers),
        ("visual.transformer", sizes.vision_width, sizes.vision_layers),
    )
    for tower, width, layers in towers:
        for layer in (f"{tower}.resblocks.{number}" for number in range(layers)):
            shapes |= {
                f"{layer}.attn.in_proj_weight": (3 * width, width),
                f"{layer}.attn.in_proj_bias": (3 * width,),
            }
            shapes |= norm(f"{layer}.ln_1", width) | norm(f"{layer}.ln_2", width)
            shapes |= linear(f"{layer}.attn.out_proj", width, width)
            shapes |= linear(f"{layer}.mlp.c_fc", width, 4 * width)
            shapes |= linear(f"{layer}.mlp.c_proj", 4 * width, width)
    return shapes


def linear_head_shapes(width: int) -> Shapes:
    """sac+logos+ava1-l14-linearMSE.pth; ImageReward.pt has the same below `mlp.`."""
    widths = (width, 1024, 128, 64, 16, 1)
    shapes: Shapes = {}
    for number, width_in, width_out in zip((0, 2, 4, 6, 7), widths, widths[1:], strict=False):
        shapes |= linear(f"layers.{number}", width_in, width_out)
    return shapes


def image_reward_shapes(sizes: BlipSizes = BlipSizes()) -> Shapes:
    """ImageReward.pt: BLIP's two transformers, projections that go unused, and the head."""
    blip, patches = "blip.visual_encoder", (SIDE // sizes.patch) ** 2
    shapes: Shapes = {
        f"{blip}.cls_token": (1, 1, sizes.vision_width),
        f"{blip}.pos_embed": (1, patches + 1, sizes.vision_width),
        f"{blip}.patch_embed.proj.weight": (sizes.vision_width, 3, sizes.patch, sizes.patch),
        f"{blip}.patch_embed.proj.bias": (sizes.vision_width,),
    }
    shapes |= norm(f"{blip}.norm", sizes.vision_width)
    for block in (f"{blip}.blocks.{number}" for number in range(sizes.vision_layers)):
        shapes |= norm(f"{block}.norm1", sizes.vision_width) | norm(f"{block}.norm2", sizes.vision_width)
        shapes |= linear(f"{block}.attn.qkv", sizes.vision_width, 3 * sizes.vision_width)
        shapes |= linear(f"{block}.attn.proj", sizes.vision_width, sizes.vision_width)
        shapes |= linear(f"{block}.mlp.fc1", sizes.vision_width, 4 * sizes.vision_width)
        shapes |= linear(f"{block}.mlp.fc2", 4 * sizes.vision_width, sizes.vision_width)
    for number in range(sizes.text_layers):
        shapes |= _bert_layer(f"blip.text_encoder.encoder.layer.{number}", sizes)
    embeddings = "blip.text_encoder.embeddings"
    shapes |= {
        f"{embeddings}.position_ids": (1, sizes.text_positions),
        f"{embeddings}.word_embeddings.weight": (sizes.tokens, sizes.text_width),
        f"{embeddings}.position_embeddings.weight": (sizes.text_positions, sizes.text_width),
    }
    shapes |= norm(f"{embeddings}.LayerNorm", sizes.text_width)
    shapes |= linear("blip.vision_proj", sizes.vision_width, sizes.projection) | linear(
        "blip.text_proj", sizes.text_width, sizes.projection
    )
    return shapes | {f"mlp.{name}": shape for name, shape in linear_head_shapes(sizes.text_width).items()}


def _bert_layer(layer: str, sizes: BlipSizes) -> Shapes:
    width = sizes.text_width
    shapes: Shapes = {}
    for attention, context in (("attention", width), ("crossattention", sizes.vision_width)):
        shapes |= linear(f"{layer}.{attention}.self.query", width, width)
        shapes |= linear(f"{layer}.{attention}.self.key", context, width)
        shapes |= linear(f"{layer}.{attention}.self.value", context, width)
        shapes |= linear(f"{layer}.{attention}.output.dense", width, width)
        shapes |= norm(f"{layer}.{attention}.output.LayerNorm", width)
    shapes |= linear(f"{layer}.intermediate.dense", width, 4 * width)
    return (
        shapes | linear(f"{layer}.output.dense", 4 * width, width) | norm(f"{layer}.output.LayerNorm", width)
    )


def linear(name: str, width_in: int, width_out: int) -> Shapes:
    return {f"{name}.weight": (width_out, width_in), f"{name}.bias": (width_out,)}


def norm(name: str, width: int) -> Shapes:
    return {f"{name}.weight": (width,), f"{name}.bias": (width,)}


def write_clip_base(folder: Path, activation: str) -> Path:
    """What PickScore and HPSv2 come without: configuration, tokenizer and image processor."""
    clip_config(activation).save_pretrained(folder)
    clip_tokenizer().save_pretrained(folder)
    CLIPImageProcessorPil().save_pretrained(folder)
    return folder


def bert_tokenizer() -> BertTokenizer:
    """BERT's word pieces: whole words alone."""
    return BertTokenizer(vocab={token: index for index, token in enumerate(BERT_TOKENS)})


def write_image_reward(folder: Path, weights: Weights) -> str:
    """Weights and, since they are not the published ones, sizes."""
    sizes = {
        "image_side": SIDE,
        "patch_side": PATCH,
        "vision_width": BLIP_VISION_WIDTH,
        "vision_layers": VISION_LAYERS,
        "text_width": BLIP_TEXT_WIDTH,
        "text_layers": TEXT_LAYERS,
        "text_positions": BERT_POSITIONS,
        "vocabulary": len(BERT_TOKENS),
    }
    write_weights(folder, weights)
    (folder / "config.json").write_text(json.dumps(sizes))
    return str(folder)


def write_clip(folder: Path, weights: Weights, activation: str = "gelu") -> str:
    """Weights and configuration alone, as PickScore_v1 has them."""
    clip_config(activation).save_pretrained(folder)
    return str(write_weights(folder, weights))


def clip_config(activation: str) -> CLIPConfig:
    text: dict[str, Any] = {
        "hidden_size": TEXT_WIDTH,
        "intermediate_size": 4 * TEXT_WIDTH,
        "num_hidden_layers": TEXT_LAYERS,
        "num_attention_heads": TEXT_HEADS,
        "vocab_size": len(TOKENS),
        "max_position_embeddings": LENGTH,
        "hidden_act": activation,
        "eos_token_id": 2,  # as published, though the tokenizer's is another
    }
    vision: dict[str, Any] = {
        "hidden_size": VISION_WIDTH,
        "intermediate_size": 4 * VISION_WIDTH,
        "num_hidden_layers": VISION_LAYERS,
        "num_attention_heads": VISION_HEADS,
        "patch_size": PATCH,
        "image_size": SIDE,
        "hidden_act": activation,
    }
    return CLIPConfig(text_config=text, vision_config=vision, projection_dim=EMBEDDING)


def clip_tokenizer() -> CLIPTokenizer:
    """CLIP's byte pairs without a merge: every letter is a token."""
    return CLIPTokenizer(vocab={token: index for index, token in enumerate(TOKENS)}, merges=[])


def write_weights(folder: Path, weights: Weights) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    save_file(weights, folder / "model.safetensors")
    return folder
