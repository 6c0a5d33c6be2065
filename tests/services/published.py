"""Reward checkpoints as they are published, at a reduced width: key names and shapes written out by hand."""

import json
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


def clip_shapes() -> Shapes:
    """A CLIPModel as transformers saves it: PickScore_v1, clip-vit-large-patch14."""
    shapes: Shapes = {
        "logit_scale": (),
        "text_model.embeddings.token_embedding.weight": (len(TOKENS), TEXT_WIDTH),
        "text_model.embeddings.position_embedding.weight": (LENGTH, TEXT_WIDTH),
        "text_projection.weight": (EMBEDDING, TEXT_WIDTH),
        "vision_model.embeddings.class_embedding": (VISION_WIDTH,),
        "vision_model.embeddings.patch_embedding.weight": (VISION_WIDTH, 3, PATCH, PATCH),
        "vision_model.embeddings.position_embedding.weight": ((SIDE // PATCH) ** 2 + 1, VISION_WIDTH),
        "visual_projection.weight": (EMBEDDING, VISION_WIDTH),
    }
    for name in ("text_model.final_layer_norm", "vision_model.pre_layrnorm", "vision_model.post_layernorm"):
        shapes |= norm(name, TEXT_WIDTH if name.startswith("text") else VISION_WIDTH)
    towers = (("text_model", TEXT_WIDTH, TEXT_LAYERS), ("vision_model", VISION_WIDTH, VISION_LAYERS))
    for tower, width, layers in towers:
        for layer in (f"{tower}.encoder.layers.{number}" for number in range(layers)):
            for name in ("q_proj", "k_proj", "v_proj", "out_proj"):
                shapes |= linear(f"{layer}.self_attn.{name}", width, width)
            shapes |= linear(f"{layer}.mlp.fc1", width, 4 * width) | linear(
                f"{layer}.mlp.fc2", 4 * width, width
            )
            shapes |= norm(f"{layer}.layer_norm1", width) | norm(f"{layer}.layer_norm2", width)
    return shapes


def open_clip_shapes() -> Shapes:
    """The same model as open_clip saves it: HPS_v2.1_compressed.pt."""
    shapes: Shapes = {
        "logit_scale": (),
        "positional_embedding": (LENGTH, TEXT_WIDTH),
        "text_projection": (TEXT_WIDTH, EMBEDDING),
        "token_embedding.weight": (len(TOKENS), TEXT_WIDTH),
        "visual.class_embedding": (VISION_WIDTH,),
        "visual.positional_embedding": ((SIDE // PATCH) ** 2 + 1, VISION_WIDTH),
        "visual.proj": (VISION_WIDTH, EMBEDDING),
        "visual.conv1.weight": (VISION_WIDTH, 3, PATCH, PATCH),
    }
    shapes |= norm("visual.ln_pre", VISION_WIDTH) | norm("visual.ln_post", VISION_WIDTH)
    shapes |= norm("ln_final", TEXT_WIDTH)
    towers = (("transformer", TEXT_WIDTH, TEXT_LAYERS), ("visual.transformer", VISION_WIDTH, VISION_LAYERS))
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


def image_reward_shapes() -> Shapes:
    """ImageReward.pt: BLIP's two transformers, projections that go unused, and the head."""
    blip, patches = "blip.visual_encoder", (SIDE // PATCH) ** 2
    shapes: Shapes = {
        f"{blip}.cls_token": (1, 1, BLIP_VISION_WIDTH),
        f"{blip}.pos_embed": (1, patches + 1, BLIP_VISION_WIDTH),
        f"{blip}.patch_embed.proj.weight": (BLIP_VISION_WIDTH, 3, PATCH, PATCH),
        f"{blip}.patch_embed.proj.bias": (BLIP_VISION_WIDTH,),
    }
    shapes |= norm(f"{blip}.norm", BLIP_VISION_WIDTH)
    for block in (f"{blip}.blocks.{number}" for number in range(VISION_LAYERS)):
        shapes |= norm(f"{block}.norm1", BLIP_VISION_WIDTH) | norm(f"{block}.norm2", BLIP_VISION_WIDTH)
        shapes |= linear(f"{block}.attn.qkv", BLIP_VISION_WIDTH, 3 * BLIP_VISION_WIDTH)
        shapes |= linear(f"{block}.attn.proj", BLIP_VISION_WIDTH, BLIP_VISION_WIDTH)
        shapes |= linear(f"{block}.mlp.fc1", BLIP_VISION_WIDTH, 4 * BLIP_VISION_WIDTH)
        shapes |= linear(f"{block}.mlp.fc2", 4 * BLIP_VISION_WIDTH, BLIP_VISION_WIDTH)
    for number in range(TEXT_LAYERS):
        shapes |= _bert_layer(f"blip.text_encoder.encoder.layer.{number}")
    embeddings = "blip.text_encoder.embeddings"
    shapes |= {
        f"{embeddings}.position_ids": (1, BERT_POSITIONS),
        f"{embeddings}.word_embeddings.weight": (len(BERT_TOKENS), BLIP_TEXT_WIDTH),
        f"{embeddings}.position_embeddings.weight": (BERT_POSITIONS, BLIP_TEXT_WIDTH),
    }
    shapes |= norm(f"{embeddings}.LayerNorm", BLIP_TEXT_WIDTH)
    shapes |= linear("blip.vision_proj", BLIP_VISION_WIDTH, 32) | linear(
        "blip.text_proj", BLIP_TEXT_WIDTH, 32
    )
    return shapes | {f"mlp.{name}": shape for name, shape in linear_head_shapes(BLIP_TEXT_WIDTH).items()}


def _bert_layer(layer: str) -> Shapes:
    width = BLIP_TEXT_WIDTH
    shapes: Shapes = {}
    for attention, context in (("attention", width), ("crossattention", BLIP_VISION_WIDTH)):
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
