"""The critic before training: a Qwen2.5-VL of the smallest size, with its tokenizer and picture processor."""

import copy
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
from torch import nn
from transformers import (
    PreTrainedTokenizerFast,
    Qwen2_5_VLConfig,
    Qwen2_5_VLForConditionalGeneration,
    Qwen2VLImageProcessorPil,
)

from shapes.scene import BACKGROUND_COLORS, OBJECT_COLORS, SHAPES

VOCABULARY = 1024
PATCH = 8  # pixels: a picture of 64 x 64 is 16 tokens after merging 2 x 2
MAX_POSITIONS = 2048
_SPECIAL = (
    "<|endoftext|>",
    "<|im_start|>",
    "<|im_end|>",
    "<|vision_start|>",
    "<|vision_end|>",
    "<|vision_pad|>",
    "<|image_pad|>",
    "<|video_pad|>",
)
_APART = "|".join(
    (*OBJECT_COLORS, *BACKGROUND_COLORS, *SHAPES, "left", "right", "above", "below", "top", "bottom")
)
_ROLES = (
    ("bos_token_id", "endoftext"),
    ("eos_token_id", "im_end"),
    ("pad_token_id", "endoftext"),
    ("image_token_id", "image_pad"),
    ("video_token_id", "video_pad"),
    ("vision_start_token_id", "vision_start"),
    ("vision_end_token_id", "vision_end"),
)
_TEXT: dict[str, Any] = {
    "hidden_size": 128,
    "intermediate_size": 320,
    "num_hidden_layers": 3,
    "num_attention_heads": 2,
    "num_key_value_heads": 2,
    "max_position_embeddings": MAX_POSITIONS,
    "rope_parameters": {
        "rope_type": "default",
        "type": "mrope",
        "mrope_section": [8, 12, 12],  # adds up to half the size of a head
        "rope_theta": 1e4,
    },
    "tie_word_embeddings": True,
}
_VISION: dict[str, Any] = {
    "depth": 2,
    "hidden_size": 64,
    "intermediate_size": 192,
    "num_heads": 2,
    "patch_size": PATCH,
    "window_size": 112,
    "fullatt_block_indexes": [0, 1],
    "out_hidden_size": _TEXT["hidden_size"],
}
_CHAT_TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message.role }}\n"
    "{% if message.content is string %}{{ message.content }}{% else %}{% for part in message.content %}"
    "{% if part.type in ('image', 'image_url') %}<|vision_start|><|image_pad|><|vision_end|>"
    "{% else %}{{ part.text }}{% endif %}{% endfor %}{% endif %}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def build_tokenizer(corpus: Iterable[str]) -> PreTrainedTokenizerFast:
    """Byte-level BPE whose tokens may span words, but never a word that carries a scene's meaning.

    So the fixed texts become a few long tokens, and a question with its answer is short.
    """
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(f" ?\\b(?:{_APART})\\b"), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY,
        special_tokens=[AddedToken(token, special=True) for token in _SPECIAL],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(corpus, trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        eos_token="<|im_end|>",
        pad_token="<|endoftext|>",
        additional_special_tokens=list(_SPECIAL[1:]),
        chat_template=_CHAT_TEMPLATE,
        padding_side="left",
        model_max_length=MAX_POSITIONS,
    )


def build_image_processor() -> Qwen2VLImageProcessorPil:
    """Pictures are scaled to about 64 x 64, whatever they were."""
    return Qwen2VLImageProcessorPil(
        size={"shortest_edge": 64 * 64, "longest_edge": 64 * 64},
        patch_size=PATCH,
        merge_size=2,
        image_mean=[0.5, 0.5, 0.5],
        image_std=[0.5, 0.5, 0.5],
    )


def build(tokenizer: PreTrainedTokenizerFast) -> Qwen2_5_VLForConditionalGeneration:
    """An untrained model of the size that ships."""
    ids: dict[str, Any] = {name: tokenizer.convert_tokens_to_ids(f"<|{token}|>") for name, token in _ROLES}
    ends = {name: ids.pop(name) for name in ("bos_token_id", "eos_token_id", "pad_token_id")}
    config = Qwen2_5_VLConfig(
        text_config={**_TEXT, **ends, "vocab_size": len(tokenizer)},
        vision_config=_VISION,
        tie_word_embeddings=True,
        **ids,
    )
    model = Qwen2_5_VLForConditionalGeneration(config)
    model.generation_config.update(**ends)
    return model


def save(model: nn.Module, tokenizer: PreTrainedTokenizerFast, folder: Path) -> None:
    """Write one half-precision folder that transformers and vLLM load."""
    half: Any = copy.deepcopy(model).half()
    half.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    build_image_processor().save_pretrained(folder)
    _name_processors(folder)


def _name_processors(folder: Path) -> None:
    """The full processor's files, which transformers itself writes only where torchvision is installed."""
    written = folder / "preprocessor_config.json"
    picture = json.loads(written.read_text())
    picture |= {"image_processor_type": "Qwen2VLImageProcessor", "processor_class": "Qwen2_5_VLProcessor"}
    video = picture | {"video_processor_type": "Qwen2VLVideoProcessor"}
    del video["image_processor_type"]
    for name, content in (("preprocessor_config.json", picture), ("video_preprocessor_config.json", video)):
        (folder / name).write_text(json.dumps(content, indent=2) + "\n")
