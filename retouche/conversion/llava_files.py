"""What lies beside the weights of a LlavaOnevision folder: configuration, tokenizer, processors, template."""

import json
from pathlib import Path
from typing import Any

from retouche.conversion.llava_layout import VISION_HEAD, VISION_LAYERS, LlavaConfig, VisionSizes
from retouche.errors import BadRequest

PICTURE, VIDEO = "<image>", "<video>"
_PROCESSOR = "LlavaOnevisionProcessor"
_QWEN = (  # fields of LLaVA-NeXT's config.json that are Qwen2's own
    "attention_dropout bos_token_id eos_token_id hidden_act hidden_size initializer_range intermediate_size "
    "max_position_embeddings max_window_layers num_attention_heads num_hidden_layers num_key_value_heads "
    "rms_norm_eps rope_scaling rope_theta sliding_window tie_word_embeddings use_cache use_sliding_window"
).split()
_CHAT_TEMPLATE = """\
{% if messages[0].role != 'system' %}<|im_start|>system
You are a helpful assistant.<|im_end|>
{% endif %}{% for message in messages %}<|im_start|>{{ message.role }}
{% if message.content is string %}{{ message.content }}{% else %}{% for part in message.content %}\
{% if part.type in ('image', 'image_url') %}<image>
{% else %}{{ part.text }}{% endif %}{% endfor %}{% endif %}<|im_end|>
{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant
{% endif %}"""


def model_config(
    original: dict[str, Any], config: LlavaConfig, vision: VisionSizes, tokens: dict[str, int]
) -> dict[str, Any]:
    """config.json. `tokens`: the ids of PICTURE and VIDEO."""
    text = {name: original[name] for name in _QWEN if name in original}
    dtype = original.get("torch_dtype", original.get("dtype", "float16"))
    return {
        "architectures": ["LlavaOnevisionForConditionalGeneration"],
        "model_type": "llava_onevision",
        "dtype": dtype,
        "image_grid_pinpoints": _heights_first(config),
        "image_token_index": tokens[PICTURE],
        "video_token_index": tokens[VIDEO],
        "multimodal_projector_bias": True,
        "projector_hidden_act": "gelu",
        "vision_aspect_ratio": config.image_aspect_ratio,
        "vision_feature_layer": -1,  # of those there are: the tower is without its last
        "vision_feature_select_strategy": "full",
        "tie_word_embeddings": config.tie_word_embeddings,
        "text_config": {
            **text,
            "model_type": "qwen2",
            "dtype": dtype,
            "vocab_size": max(config.vocab_size, *(number + 1 for number in tokens.values())),
        },
        "vision_config": _vision_config(vision) | {"dtype": dtype},
    }


def tokenizer(source: Path) -> tuple[dict[str, Any], dict[str, int]]:
    """tokenizer.json with a token each for PICTURE and VIDEO, and their ids.

    Raises:
        BadRequest: there is none, or it is no tokenizer.
    """
    path = source / "tokenizer.json"
    try:
        content: dict[str, Any] = json.loads(path.read_bytes())
        known = {token["content"]: int(token["id"]) for token in content["added_tokens"]}
        free = 1 + max([*known.values(), *content["model"]["vocab"].values()])
    except FileNotFoundError:
        raise BadRequest(f"{source} has no tokenizer.json: fetch it from where the weights are") from None
    except (ValueError, KeyError, TypeError, AttributeError):
        raise BadRequest(f"{path} is no tokenizer of the tokenizers library") from None
    for token in (PICTURE, VIDEO):
        if token not in known:
            known[token], free = free, free + 1
            content["added_tokens"].append(_special(known[token], token))
    return content, {token: known[token] for token in (PICTURE, VIDEO)}


def write_beside(folder: Path, source: Path, config: dict[str, Any], tokenizer_json: dict[str, Any]) -> None:
    """Write everything but the weights to `folder`.

    Raises:
        BadRequest: tokenizer_config.json of `source` cannot be read.
    """
    (folder / "chat_template.jinja").write_text(_CHAT_TEMPLATE)
    contents = {
        "config.json": config,
        "tokenizer.json": tokenizer_json,
        "tokenizer_config.json": _tokenizer_config(source, tokenizer_json),
        "preprocessor_config.json": _picture_processor(config),
        "video_preprocessor_config.json": _video_processor(config),
        "processor_config.json": _processor(config),
    }
    for name, content in contents.items():
        (folder / name).write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n")


def _pixels(config: dict[str, Any]) -> dict[str, Any]:
    """How SigLIP reads pictures."""
    side = config["vision_config"]["image_size"]
    return {
        "do_convert_rgb": True,
        "do_normalize": True,
        "do_rescale": True,
        "do_resize": True,
        "image_mean": [0.5, 0.5, 0.5],
        "image_std": [0.5, 0.5, 0.5],
        "resample": 3,  # bicubic
        "rescale_factor": 1 / 255,
        "size": {"height": side, "width": side},
        "processor_class": _PROCESSOR,
    }


def _picture_processor(config: dict[str, Any]) -> dict[str, Any]:
    return {
        **_pixels(config),
        "do_pad": True,
        "image_grid_pinpoints": config["image_grid_pinpoints"],
        "image_processor_type": "LlavaOnevisionImageProcessor",
    }


def _video_processor(config: dict[str, Any]) -> dict[str, Any]:
    return {**_pixels(config), "video_processor_type": "LlavaOnevisionVideoProcessor"}


def _processor(config: dict[str, Any]) -> dict[str, Any]:
    vision = config["vision_config"]
    return {
        "image_token": PICTURE,
        "video_token": VIDEO,
        "num_image_tokens": (vision["image_size"] // vision["patch_size"]) ** 2,
        "vision_aspect_ratio": config["vision_aspect_ratio"],
        "vision_feature_select_strategy": config["vision_feature_select_strategy"],
        "processor_class": _PROCESSOR,
    }


def _heights_first(config: LlavaConfig) -> list[list[int]]:
    """transformers names a resolution by its height first, LLaVA-NeXT by its width."""
    return [[height, width] for width, height in config.image_grid_pinpoints]


def _vision_config(vision: VisionSizes) -> dict[str, Any]:
    return {
        "model_type": "siglip_vision_model",
        "hidden_act": "gelu_pytorch_tanh",
        "hidden_size": vision.hidden_size,
        "image_size": vision.image_size,
        "intermediate_size": vision.intermediate_size,
        "layer_norm_eps": 1e-6,
        "num_attention_heads": vision.hidden_size // VISION_HEAD,
        "num_hidden_layers": VISION_LAYERS,
        "patch_size": vision.patch_size,
        "vision_use_head": False,
    }


def _tokenizer_config(source: Path, tokenizer_json: dict[str, Any]) -> dict[str, Any]:
    """LLaVA-NeXT's, where it is; Qwen2's own where not."""
    path = source / "tokenizer_config.json"
    try:
        found: dict[str, Any] = json.loads(path.read_bytes()) if path.is_file() else _QWEN_TOKENIZER
    except ValueError as error:
        raise BadRequest(f"{path} cannot be read: {error}") from None
    tokens = {str(token["id"]): _described(token) for token in tokenizer_json["added_tokens"]}
    kept = {name: value for name, value in found.items() if name != "chat_template"}
    return {**kept, "added_tokens_decoder": tokens, "processor_class": _PROCESSOR}


_QWEN_TOKENIZER = {
    "tokenizer_class": "Qwen2Tokenizer",
    "eos_token": "<|im_end|>",
    "pad_token": "<|endoftext|>",
}


def _special(number: int, token: str) -> dict[str, Any]:
    plain = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False}
    return {"id": number, "content": token, **plain, "special": True}


def _described(token: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in token.items() if name != "id"}
