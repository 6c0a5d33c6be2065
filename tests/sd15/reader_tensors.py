"""The tensors of the two vision-language models as they are published, written out by hand."""

from tests.services.published import Shapes, linear, norm

_WIDTH, _KEYS, _WIDER, _LAYERS, _TOKENS = 3584, 512, 18_944, 28, 152_064  # of Qwen2 7B
_SIGLIP = 1152


def llava_critic() -> Shapes:
    """LLaVA-Critic-7B in the layout of LlavaOnevisionForConditionalGeneration."""
    shapes: Shapes = {"image_newline": (_WIDTH,)}
    shapes |= linear("multi_modal_projector.linear_1", _SIGLIP, _WIDTH)
    shapes |= linear("multi_modal_projector.linear_2", _WIDTH, _WIDTH)
    shapes |= _qwen2("language_model.model") | {"language_model.lm_head.weight": (_TOKENS, _WIDTH)}
    tower = "vision_tower.vision_model"
    shapes |= {
        f"{tower}.embeddings.patch_embedding.weight": (_SIGLIP, 3, 14, 14),
        f"{tower}.embeddings.patch_embedding.bias": (_SIGLIP,),
        f"{tower}.embeddings.position_embedding.weight": (729, _SIGLIP),
    }
    shapes |= norm(f"{tower}.post_layernorm", _SIGLIP)
    for layer in (f"{tower}.encoder.layers.{number}" for number in range(26)):
        for name in ("q_proj", "k_proj", "v_proj", "out_proj"):
            shapes |= linear(f"{layer}.self_attn.{name}", _SIGLIP, _SIGLIP)
        shapes |= linear(f"{layer}.mlp.fc1", _SIGLIP, 4304) | linear(f"{layer}.mlp.fc2", 4304, _SIGLIP)
        shapes |= norm(f"{layer}.layer_norm1", _SIGLIP) | norm(f"{layer}.layer_norm2", _SIGLIP)
    return shapes


def qwen() -> Shapes:
    """Qwen2.5-VL-7B-Instruct."""
    shapes = _qwen2("model") | {"lm_head.weight": (_TOKENS, _WIDTH)}
    shapes |= {"visual.patch_embed.proj.weight": (1280, 3, 2, 14, 14), "visual.merger.ln_q.weight": (1280,)}
    shapes |= linear("visual.merger.mlp.0", 5120, 5120) | linear("visual.merger.mlp.2", 5120, _WIDTH)
    for block in (f"visual.blocks.{number}" for number in range(32)):
        shapes |= {f"{block}.norm1.weight": (1280,), f"{block}.norm2.weight": (1280,)}
        shapes |= linear(f"{block}.attn.qkv", 1280, 3840) | linear(f"{block}.attn.proj", 1280, 1280)
        shapes |= linear(f"{block}.mlp.gate_proj", 1280, 3420) | linear(f"{block}.mlp.up_proj", 1280, 3420)
        shapes |= linear(f"{block}.mlp.down_proj", 3420, 1280)
    return shapes


def _qwen2(model: str) -> Shapes:
    shapes: Shapes = {f"{model}.embed_tokens.weight": (_TOKENS, _WIDTH), f"{model}.norm.weight": (_WIDTH,)}
    for layer in (f"{model}.layers.{number}" for number in range(_LAYERS)):
        shapes |= linear(f"{layer}.self_attn.q_proj", _WIDTH, _WIDTH)
        shapes |= linear(f"{layer}.self_attn.k_proj", _WIDTH, _KEYS)
        shapes |= linear(f"{layer}.self_attn.v_proj", _WIDTH, _KEYS)
        shapes |= {
            f"{layer}.self_attn.o_proj.weight": (_WIDTH, _WIDTH),
            f"{layer}.mlp.gate_proj.weight": (_WIDER, _WIDTH),
            f"{layer}.mlp.up_proj.weight": (_WIDER, _WIDTH),
            f"{layer}.mlp.down_proj.weight": (_WIDTH, _WIDER),
            f"{layer}.input_layernorm.weight": (_WIDTH,),
            f"{layer}.post_attention_layernorm.weight": (_WIDTH,),
        }
    return shapes
