"""ImageReward's network (arXiv 2304.05977): a BLIP that reads the prompt while it looks at the picture.

A vision transformer sees the picture; a BERT reads the prompt, every layer looking at what was seen; a
linear head rates its class token. Attributes are named as the published tensors are, hence `LayerNorm`.

Shapes: B batch, C channels, H and W pixels, P patches and the class token, T text tokens, S either, V width
of vision, D width of text, N heads, K width of a head.
"""

from typing import Annotated

import torch
from pydantic import Field
from torch import nn
from torch.nn.functional import gelu, scaled_dot_product_attention

from retouche.contract.payload import Payload
from services.reward.linear_head import LinearHead

HEAD_WIDTH = 64  # of both transformers
_VISION_EPSILON, _TEXT_EPSILON = 1e-6, 1e-12

Width = Annotated[int, Field(ge=HEAD_WIDTH, multiple_of=HEAD_WIDTH)]
Count = Annotated[int, Field(ge=1)]


class Sizes(Payload):
    """The published ones, unless told otherwise: BLIP with ViT-L/16, and BERT base with two more tokens."""

    image_side: Count = 224
    patch_side: Count = 16
    vision_width: Width = 1024
    vision_layers: Count = 24
    text_width: Width = 768
    text_layers: Count = 12
    text_positions: Count = 512
    vocabulary: Count = 30_524


class ImageRewardNetwork(nn.Module):
    """Pictures and prompts to raw rewards."""

    def __init__(self, sizes: Sizes) -> None:
        super().__init__()
        self.blip = nn.ModuleDict(
            {"visual_encoder": VisionTransformer(sizes), "text_encoder": TextEncoder(sizes)}
        )
        self.mlp = LinearHead(sizes.text_width)

    def forward(
        self, pixels_BCHW: torch.Tensor, tokens_BT: torch.Tensor, mask_BT: torch.Tensor
    ) -> torch.Tensor:
        """(B,), before it is standardised; `mask_BT` is true for tokens and false for padding.

        The head is in float32 whatever the rest is in, as published.
        """
        seen_BPV = self.blip["visual_encoder"](pixels_BCHW)
        read_BTD = self.blip["text_encoder"](tokens_BT, mask_BT, seen_BPV)
        rewards_B: torch.Tensor = self.mlp(read_BTD[:, 0].float())
        return rewards_B


class VisionTransformer(nn.Module):
    """Pixels, (B, C, H, W), to (B, P, V); arXiv 2010.11929, normalising first."""

    def __init__(self, sizes: Sizes) -> None:
        super().__init__()
        width, side = sizes.vision_width, sizes.patch_side
        patches = (sizes.image_side // side) ** 2
        self.cls_token = nn.Parameter(torch.zeros(1, 1, width))
        self.pos_embed = nn.Parameter(torch.zeros(1, patches + 1, width))
        self.patch_embed = nn.ModuleDict({"proj": nn.Conv2d(3, width, side, side)})
        self.blocks = nn.ModuleList(VisionBlock(width) for _ in range(sizes.vision_layers))
        self.norm = nn.LayerNorm(width, eps=_VISION_EPSILON)

    def forward(self, pixels_BCHW: torch.Tensor) -> torch.Tensor:
        patches_BPV = self.patch_embed["proj"](pixels_BCHW).flatten(2).transpose(1, 2)
        class_B1V = self.cls_token.expand(len(pixels_BCHW), -1, -1)
        x_BPV = torch.cat([class_B1V, patches_BPV], dim=1) + self.pos_embed
        for block in self.blocks:
            x_BPV = block(x_BPV)
        seen_BPV: torch.Tensor = self.norm(x_BPV)
        return seen_BPV


class VisionBlock(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(width, eps=_VISION_EPSILON)
        self.attn = nn.ModuleDict({"qkv": nn.Linear(width, 3 * width), "proj": nn.Linear(width, width)})
        self.norm2 = nn.LayerNorm(width, eps=_VISION_EPSILON)
        self.mlp = nn.ModuleDict({"fc1": nn.Linear(width, 4 * width), "fc2": nn.Linear(4 * width, width)})

    def forward(self, x_BPV: torch.Tensor) -> torch.Tensor:
        query_BPV, key_BPV, value_BPV = self.attn["qkv"](self.norm1(x_BPV)).chunk(3, dim=-1)
        x_BPV = x_BPV + self.attn["proj"](attended(query_BPV, key_BPV, value_BPV))
        changed_BPV: torch.Tensor = x_BPV + self.mlp["fc2"](gelu(self.mlp["fc1"](self.norm2(x_BPV))))
        return changed_BPV


class TextEncoder(nn.Module):
    """Tokens to (B, T, D): BERT (arXiv 1810.04805), normalising last, with cross-attention in every layer."""

    def __init__(self, sizes: Sizes) -> None:
        super().__init__()
        width = sizes.text_width
        self.embeddings = nn.ModuleDict(
            {
                "word_embeddings": nn.Embedding(sizes.vocabulary, width),
                "position_embeddings": nn.Embedding(sizes.text_positions, width),
                "LayerNorm": nn.LayerNorm(width, eps=_TEXT_EPSILON),
            }
        )
        layers = (TextLayer(width, sizes.vision_width) for _ in range(sizes.text_layers))
        self.encoder = nn.ModuleDict({"layer": nn.ModuleList(layers)})

    def forward(self, tokens_BT: torch.Tensor, mask_BT: torch.Tensor, seen_BPV: torch.Tensor) -> torch.Tensor:
        positions_T = torch.arange(tokens_BT.shape[1], device=tokens_BT.device)
        positions_TD = self.embeddings["position_embeddings"](positions_T)
        x_BTD: torch.Tensor = self.embeddings["word_embeddings"](tokens_BT) + positions_TD
        x_BTD = self.embeddings["LayerNorm"](x_BTD)
        for layer in self.encoder["layer"].children():
            x_BTD = layer(x_BTD, mask_BT[:, None, None, :], seen_BPV)
        return x_BTD


class TextLayer(nn.Module):
    def __init__(self, width: int, vision_width: int) -> None:
        super().__init__()
        self.attention = TextAttention(width, width)
        self.crossattention = TextAttention(width, vision_width)
        self.intermediate = nn.ModuleDict({"dense": nn.Linear(width, 4 * width)})
        self.output = Added(4 * width, width)

    def forward(self, x_BTD: torch.Tensor, mask_B11T: torch.Tensor, seen_BPV: torch.Tensor) -> torch.Tensor:
        x_BTD = self.attention(x_BTD, x_BTD, mask_B11T)
        x_BTD = self.crossattention(x_BTD, seen_BPV, None)
        added_BTD: torch.Tensor = self.output(gelu(self.intermediate["dense"](x_BTD)), x_BTD)
        return added_BTD


class TextAttention(nn.Module):
    """The prompt to itself, or to what was seen."""

    def __init__(self, width: int, context_width: int) -> None:
        super().__init__()
        self.self = nn.ModuleDict(
            {
                "query": nn.Linear(width, width),
                "key": nn.Linear(context_width, width),
                "value": nn.Linear(context_width, width),
            }
        )
        self.output = Added(width, width)

    def forward(
        self, x_BTD: torch.Tensor, context_BSV: torch.Tensor, mask_B11S: torch.Tensor | None
    ) -> torch.Tensor:
        key_BSD, value_BSD = self.self["key"](context_BSV), self.self["value"](context_BSV)
        mixed_BTD = attended(self.self["query"](x_BTD), key_BSD, value_BSD, mask_B11S)
        added_BTD: torch.Tensor = self.output(mixed_BTD, x_BTD)
        return added_BTD


class Added(nn.Module):
    """How a BERT layer's part goes back into the stream."""

    def __init__(self, width_in: int, width: int) -> None:
        super().__init__()
        self.dense = nn.Linear(width_in, width)
        self.LayerNorm = nn.LayerNorm(width, eps=_TEXT_EPSILON)

    def forward(self, change_BSX: torch.Tensor, x_BSD: torch.Tensor) -> torch.Tensor:
        added_BSD: torch.Tensor = self.LayerNorm(self.dense(change_BSX) + x_BSD)
        return added_BSD


def attended(
    query_BSD: torch.Tensor,
    key_BSD: torch.Tensor,
    value_BSD: torch.Tensor,
    mask_B11S: torch.Tensor | None = None,
) -> torch.Tensor:
    """(B, S, D) as the query has it; keys where the mask is false are not seen."""
    query, key, value = (
        x_BSD.unflatten(-1, (-1, HEAD_WIDTH)).transpose(1, 2) for x_BSD in (query_BSD, key_BSD, value_BSD)
    )
    mixed_BNSK = scaled_dot_product_attention(query, key, value, attn_mask=mask_B11S)
    return mixed_BNSK.transpose(1, 2).flatten(2)
