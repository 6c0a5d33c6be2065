"""The diffusion models' own text encoder: a word-level vocabulary and a small CLIP text transformer."""

import torch
from tokenizers import Tokenizer, normalizers, pre_tokenizers
from tokenizers.models import WordLevel
from tokenizers.processors import TemplateProcessing
from transformers import CLIPTextConfig, CLIPTextModel, PreTrainedTokenizerFast

from shapes.scene import BACKGROUND_COLORS, OBJECT_COLORS, SHAPES

MAX_LENGTH = 24  # tokens; the longest prompt has 16, the longest instruction 11
HIDDEN = 128
LAYERS = 3
_SPECIAL = ("<pad>", "<start>", "<end>", "<unknown>")
END = _SPECIAL.index("<end>")
_WORDS = (
    "a an and the of on left right above below top bottom background make turn into put add remove extra "
    "object objects swap two change to it"
).split()


def build_tokenizer() -> PreTrainedTokenizerFast:
    """Words of the prompt and instruction grammars; anything else is one unknown token."""
    words = [*_SPECIAL, *OBJECT_COLORS, *BACKGROUND_COLORS, *SHAPES, *_WORDS]
    tokenizer = Tokenizer(WordLevel({word: index for index, word in enumerate(words)}, unk_token="<unknown>"))
    tokenizer.normalizer = normalizers.Lowercase()
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = TemplateProcessing(
        single="<start> $A <end>", special_tokens=[("<start>", 1), ("<end>", 2)]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token="<pad>",
        bos_token="<start>",
        eos_token="<end>",
        unk_token="<unknown>",
        model_max_length=MAX_LENGTH,
    )


def build_text_encoder(tokenizer: PreTrainedTokenizerFast) -> CLIPTextModel:
    """An untrained encoder; shapes/train/reading.py teaches it, and it is frozen afterwards."""
    return CLIPTextModel(
        CLIPTextConfig(
            vocab_size=len(tokenizer),
            hidden_size=HIDDEN,
            intermediate_size=2 * HIDDEN,
            projection_dim=HIDDEN,
            num_hidden_layers=LAYERS,
            num_attention_heads=4,
            max_position_embeddings=MAX_LENGTH,
            pad_token_id=0,
            bos_token_id=1,
            eos_token_id=2,
        )
    )


def tokenize(tokenizer: PreTrainedTokenizerFast, texts: list[str]) -> torch.Tensor:
    """Token ids, (B, MAX_LENGTH)."""
    encoded = tokenizer(
        texts, padding="max_length", max_length=MAX_LENGTH, truncation=True, return_tensors="pt"
    )
    ids: torch.Tensor = encoded.input_ids
    return ids
