"""HPS v2.1 (arXiv 2306.09341): CLIP ViT-H/14 tuned on Human Preference Dataset v2, in open_clip's names.

xswu/HPSv2 holds HPS_v2.1_compressed.pt, which services/reward/convert.py turns into safetensors; its base,
laion/CLIP-ViT-H-14-laion2B-s32B-b79K, has the configuration and the tokenizer.
"""

import re
from functools import partial

import torch
from transformers import CLIPConfig, CLIPModel

from retouche.profile import RewardChoice
from services.checkpoint import Weights, read, require_all
from services.diffusion import device
from services.reward import clip
from services.reward.pixels import letterboxed, standardised
from services.reward.reward_model import RewardModel

_KIND = "HPSv2, a CLIP of open_clip with the sizes of its base"

# What transformers' CLIPModel calls a tensor, and what open_clip does. Rules apply one after the other.
_NAMES = (
    (r"^vision_model\.embeddings\.patch_embedding\.", "visual.conv1."),
    (r"^vision_model\.embeddings\.position_embedding\.weight$", "visual.positional_embedding"),
    (r"^vision_model\.embeddings\.class_embedding$", "visual.class_embedding"),
    (r"^vision_model\.pre_layrnorm\.", "visual.ln_pre."),
    (r"^vision_model\.post_layernorm\.", "visual.ln_post."),
    (r"^vision_model\.encoder\.layers\.", "visual.transformer.resblocks."),
    (r"^visual_projection\.weight$", "visual.proj"),
    (r"^text_model\.embeddings\.token_embedding\.", "token_embedding."),
    (r"^text_model\.embeddings\.position_embedding\.weight$", "positional_embedding"),
    (r"^text_model\.final_layer_norm\.", "ln_final."),
    (r"^text_model\.encoder\.layers\.", "transformer.resblocks."),
    (r"^text_projection\.weight$", "text_projection"),
    (r"\.self_attn\.[qkv]_proj\.", ".attn.in_proj_"),
    (r"\.self_attn\.out_proj\.", ".attn.out_proj."),
    (r"\.layer_norm([12])\.", r".ln_\1."),
    (r"\.mlp\.fc1\.", ".mlp.c_fc."),
    (r"\.mlp\.fc2\.", ".mlp.c_proj."),
)
_FUSED = re.compile(r"\.([qkv])_proj\.")  # three tensors of CLIPModel lie one below the other in open_clip
_TURNED = ("visual_projection.weight", "text_projection.weight")  # applied from the other side in open_clip


def load(choice: RewardChoice) -> RewardModel:
    """Raw: the cosine, about 0.28. Published: a hundredfold, as in the benchmark's tables.

    Raises:
        ModelFailure: the weights are not those of an open_clip model with the base's sizes.
    """
    base, base_revision = clip.companion(choice, "config.json")
    config = CLIPConfig.from_pretrained(base, revision=base_revision)
    weights = renamed(read(choice.model, choice.revision), config, choice.model)
    model = CLIPModel.from_pretrained(
        None, config=config, state_dict=weights, dtype=getattr(torch, choice.dtype), device_map={"": device()}
    )
    return clip.cosine_reward(
        choice,
        clip.load_prompts(choice, model),
        clip.Reading(partial(letterboxed, side=clip.side(model)), standardised),
        published=lambda raw_B: 100 * raw_B,
    )


def renamed(weights: Weights, config: CLIPConfig, model: str) -> Weights:
    """The tensors of an open_clip checkpoint as CLIPModel names and arranges them.

    Raises:
        ModelFailure: they are not exactly those of a CLIP with this configuration; names them as open_clip.
    """
    with torch.device("meta"):
        needed = CLIPModel(config).state_dict()
    sources = {name: open_clip_name(name) for name in needed}
    present = {name: source for name, source in sources.items() if source in weights}
    arranged = {name: _arranged(name, weights[source]) for name, source in present.items()}
    require_all(
        model,
        _KIND,
        missing=set(sources.values()) - weights.keys(),
        unknown=weights.keys() - set(sources.values()),
        misshapen={
            sources[name]: (tensor.shape, needed[name].shape)
            for name, tensor in arranged.items()
            if tensor.shape != needed[name].shape
        },
    )
    return arranged


def open_clip_name(name: str) -> str:
    """What open_clip calls the tensor that CLIPModel calls `name`."""
    for pattern, replacement in _NAMES:
        name = re.sub(pattern, replacement, name)
    return name


def _arranged(name: str, tensor: torch.Tensor) -> torch.Tensor:
    if name in _TURNED:
        return tensor.T.contiguous()
    if fused := _FUSED.search(name):
        return tensor.chunk(3)["qkv".index(fused[1])].contiguous()
    return tensor
