"""The tensors of LLaVA-OneVision on Qwen2: their names in LLaVA-NeXT's code and in transformers', and shapes.

LLaVA-NeXT (`LlavaQwenForCausalLM`) hangs vision tower and projector into Qwen2's own model. transformers and
vLLM (`LlavaOnevisionForConditionalGeneration`) put the three beside each other; both load the names that the
Hub's llava-hf checkpoints have.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from pydantic import BaseModel

from retouche.conversion.safetensors_files import Tensor

Shape = tuple[int, ...]

VISION_LAYERS = 26  # SigLIP so400m has 27; LLaVA-NeXT takes what the last but one says, and keeps no more
VISION_HEAD = 72  # its head's width
IMAGE_NEWLINE = "model.image_newline"
_TOWER = "model.vision_tower.vision_tower.vision_model."
_PROJECTOR = "model.mm_projector."
_RENAMED = (  # the first that fits
    (r"^model\.vision_tower\.vision_tower\.", "vision_tower."),
    (r"^model\.mm_projector\.0\.", "multi_modal_projector.linear_1."),
    (r"^model\.mm_projector\.2\.", "multi_modal_projector.linear_2."),
    (r"^model\.image_newline$", "image_newline"),
    (r"^(model|lm_head)\.", r"language_model.\1."),
)


class LlavaConfig(BaseModel):
    """What LLaVA-NeXT's config.json says, as far as the conversion depends on it."""

    architectures: tuple[str, ...]
    hidden_size: int
    intermediate_size: int
    num_hidden_layers: int
    num_attention_heads: int
    num_key_value_heads: int
    vocab_size: int
    tie_word_embeddings: bool = False
    mm_projector_type: str
    mm_patch_merge_type: str
    image_aspect_ratio: str
    image_grid_pinpoints: list[tuple[int, int]]  # width, height


@dataclass(frozen=True)
class VisionSizes:
    """A SigLIP tower, as its tensors tell; lengths in pixels."""

    hidden_size: int
    intermediate_size: int
    patch_size: int
    positions: int

    @property
    def image_size(self) -> int:
        return int(self.positions**0.5) * self.patch_size


def vision_sizes(tensors: Mapping[str, Tensor]) -> VisionSizes:
    """The sizes of a tower.

    Raises:
        KeyError: one of the tensors that tell is not there.
    """
    hidden, _, patch, _ = tensors[f"{_TOWER}embeddings.patch_embedding.weight"].shape
    positions, _ = tensors[f"{_TOWER}embeddings.position_embedding.weight"].shape
    intermediate, _ = tensors[f"{_TOWER}encoder.layers.0.mlp.fc1.weight"].shape
    return VisionSizes(hidden, intermediate, patch, positions)


def renamed(name: str) -> str:
    """A name of LLaVA-NeXT's as transformers and vLLM know it."""
    for pattern, new in _RENAMED:
        if re.search(pattern, name):
            return re.sub(pattern, new, name)
    return name


def needed(config: LlavaConfig, vision: VisionSizes) -> dict[str, Shape]:
    """Every tensor of a checkpoint under LLaVA-NeXT's names, and its shape."""
    hidden = config.hidden_size
    return dict(
        [
            *_qwen(config),
            *_siglip(vision),
            *_linear(f"{_PROJECTOR}0", hidden, vision.hidden_size),
            *_linear(f"{_PROJECTOR}2", hidden, hidden),
            (IMAGE_NEWLINE, (hidden,)),
        ]
    )


def _qwen(config: LlavaConfig) -> Iterator[tuple[str, Shape]]:
    hidden, inner = config.hidden_size, config.intermediate_size
    keys = hidden // config.num_attention_heads * config.num_key_value_heads
    yield "model.embed_tokens.weight", (config.vocab_size, hidden)
    yield "model.norm.weight", (hidden,)
    if not config.tie_word_embeddings:
        yield "lm_head.weight", (config.vocab_size, hidden)
    for number in range(config.num_hidden_layers):
        layer = f"model.layers.{number}"
        yield from _linear(f"{layer}.self_attn.q_proj", hidden, hidden)
        yield from _linear(f"{layer}.self_attn.k_proj", keys, hidden)
        yield from _linear(f"{layer}.self_attn.v_proj", keys, hidden)
        yield f"{layer}.self_attn.o_proj.weight", (hidden, hidden)
        yield f"{layer}.mlp.gate_proj.weight", (inner, hidden)
        yield f"{layer}.mlp.up_proj.weight", (inner, hidden)
        yield f"{layer}.mlp.down_proj.weight", (hidden, inner)
        yield f"{layer}.input_layernorm.weight", (hidden,)
        yield f"{layer}.post_attention_layernorm.weight", (hidden,)


def _siglip(vision: VisionSizes) -> Iterator[tuple[str, Shape]]:
    hidden, inner, patch = vision.hidden_size, vision.intermediate_size, vision.patch_size
    yield f"{_TOWER}embeddings.patch_embedding.weight", (hidden, 3, patch, patch)
    yield f"{_TOWER}embeddings.patch_embedding.bias", (hidden,)
    yield f"{_TOWER}embeddings.position_embedding.weight", (vision.positions, hidden)
    yield from _norm(f"{_TOWER}post_layernorm", hidden)
    for number in range(VISION_LAYERS):
        layer = f"{_TOWER}encoder.layers.{number}"
        yield from _norm(f"{layer}.layer_norm1", hidden)
        yield from _norm(f"{layer}.layer_norm2", hidden)
        for part in ("q_proj", "k_proj", "v_proj", "out_proj"):
            yield from _linear(f"{layer}.self_attn.{part}", hidden, hidden)
        yield from _linear(f"{layer}.mlp.fc1", inner, hidden)
        yield from _linear(f"{layer}.mlp.fc2", hidden, inner)


def _linear(name: str, outputs: int, inputs: int) -> Iterator[tuple[str, Shape]]:
    yield f"{name}.weight", (outputs, inputs)
    yield f"{name}.bias", (outputs,)


def _norm(name: str, width: int) -> Iterator[tuple[str, Shape]]:
    yield f"{name}.weight", (width,)
    yield f"{name}.bias", (width,)
