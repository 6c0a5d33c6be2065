"""CLIP by hand, from tensors as transformers' CLIPModel names them."""

from collections.abc import Callable

import torch

from tests.services import by_hand
from tests.services.by_hand import Affine, Block, Weights, affine
from tests.services.published import TEXT_HEADS, TEXT_LAYERS, VISION_HEADS, VISION_LAYERS, clip_tokenizer

Activation = Callable[[torch.Tensor], torch.Tensor]


def block(weights: Weights, layer: str) -> Block:
    def part(name: str) -> Affine:
        return affine(weights, f"{layer}.{name}")

    return Block(
        norm1=part("layer_norm1"),
        query=part("self_attn.q_proj"),
        key=part("self_attn.k_proj"),
        value=part("self_attn.v_proj"),
        out=part("self_attn.out_proj"),
        norm2=part("layer_norm2"),
        up=part("mlp.fc1"),
        down=part("mlp.fc2"),
    )


def read(weights: Weights, prompt: str, activation: Activation) -> torch.Tensor:
    """The prompt's embedding, from its last token."""
    tokens = clip_tokenizer()(prompt, truncation=True, max_length=77).input_ids
    x = weights["text_model.embeddings.token_embedding.weight"][tokens]
    x = x + weights["text_model.embeddings.position_embedding.weight"][: len(tokens)]
    for number in range(TEXT_LAYERS):
        layer = block(weights, f"text_model.encoder.layers.{number}")
        x = by_hand.run(layer, x, TEXT_HEADS, activation, causal=True)
    last = by_hand.normalise(x, affine(weights, "text_model.final_layer_norm"), 1e-5)[-1]
    return last @ weights["text_projection.weight"].T


def seen(weights: Weights, pixels: torch.Tensor, activation: Activation) -> torch.Tensor:
    """The picture's embedding, from the class token."""
    x = by_hand.patches(pixels, weights["vision_model.embeddings.patch_embedding.weight"])
    x = torch.cat([weights["vision_model.embeddings.class_embedding"][None], x])
    x = x + weights["vision_model.embeddings.position_embedding.weight"]
    x = by_hand.normalise(x, affine(weights, "vision_model.pre_layrnorm"), 1e-5)
    for number in range(VISION_LAYERS):
        layer = block(weights, f"vision_model.encoder.layers.{number}")
        x = by_hand.run(layer, x, VISION_HEADS, activation)
    first = by_hand.normalise(x[:1], affine(weights, "vision_model.post_layernorm"), 1e-5)[0]
    return first @ weights["visual_projection.weight"].T
