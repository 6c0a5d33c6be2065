"""The diffusion models' own text encoder: a word-level vocabulary and a small CLIP text transformer.

It learns to read before anything learns to draw, as CLIP did before Stable Diffusion: from the end of a
prompt on, every position must tell the scene that is meant, whichever object was named first. Without this
the UNet spends most of its training on the grammar.
"""

from pathlib import Path

import torch
import torch.nn.functional as F
from tokenizers import Tokenizer, normalizers, pre_tokenizers
from tokenizers.models import WordLevel
from tokenizers.processors import TemplateProcessing
from torch import nn
from transformers import CLIPTextConfig, CLIPTextModel, PreTrainedTokenizerFast

from shapes.prompts import held_out_prompts, parse, train_prompts
from shapes.scene import BACKGROUND_COLORS, OBJECT_COLORS, SHAPES, Scene
from shapes.train.loop import descend, progress, start, warm_then_cosine

MAX_LENGTH = 24  # tokens; the longest prompt has 16, the longest instruction 11
HIDDEN = 128
LAYERS = 3
STEPS = 800
BATCH = 128
LEARNING_RATE = 1e-3
_SPECIAL = ("<pad>", "<start>", "<end>", "<unknown>")
_END = _SPECIAL.index("<end>")
_WORDS = (
    "a an and the of on left right above below top bottom background make turn into put add remove extra "
    "object objects swap two change to it"
).split()
_SLOTS: tuple[tuple[str, ...], ...] = (  # the items along the axis, the axis, the background
    *(("", *OBJECT_COLORS), ("", *SHAPES)) * 2,
    ("", "horizontal", "vertical"),
    tuple(BACKGROUND_COLORS),
)


def train(folder: Path, seed: int = 0, steps: int = STEPS) -> dict[str, float]:
    """Teach an encoder to read prompts and save it; the share of held-out ones it reads right."""
    device = start(seed)
    tokenizer = build_tokenizer()
    encoder = build_text_encoder(tokenizer)
    torch.nn.Module.to(encoder, device)
    heads = nn.Linear(HIDDEN, sum(len(slot) for slot in _SLOTS)).to(device)
    tokens, meanings = tokenize(tokenizer, train_prompts()).to(device), _meanings(train_prompts()).to(device)
    optimizer = torch.optim.AdamW([*encoder.parameters(), *heads.parameters()], lr=LEARNING_RATE)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, warm_then_cosine(steps))
    for _, log in progress("text encoder", steps):
        index = torch.randint(len(tokens), (BATCH,), device=device)
        log(descend(_reading_loss(encoder, heads, tokens[index], meanings[index]), optimizer, schedule))
    encoder.eval().save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    prompts = held_out_prompts()
    read = _readings(encoder, heads, tokenize(tokenizer, prompts).to(device))
    right = torch.stack([slot.argmax(-1) for slot in read], -1) == _meanings(prompts).to(device)[:, None]
    return {"read": float(right.all(-1)[:, -1].float().mean())}


def _reading_loss(
    encoder: CLIPTextModel, heads: nn.Linear, tokens: torch.Tensor, meanings: torch.Tensor
) -> torch.Tensor:
    losses = []
    for scores, meaning in zip(_readings(encoder, heads, tokens), meanings.unbind(1), strict=True):
        wanted = torch.where(_after_end(tokens), meaning[:, None], -100)
        losses.append(F.cross_entropy(scores.flatten(0, 1), wanted.flatten()))
    return torch.stack(losses).mean()


def _readings(encoder: CLIPTextModel, heads: nn.Linear, tokens: torch.Tensor) -> tuple[torch.Tensor, ...]:
    """For every slot the scores of its values at every position, (B, L, values)."""
    scores: torch.Tensor = heads(encoder(tokens)[0])
    return scores.split([len(slot) for slot in _SLOTS], dim=-1)


def _after_end(tokens: torch.Tensor) -> torch.Tensor:
    return (tokens == _END).cumsum(1) > 0


def _meanings(prompts: list[str]) -> torch.Tensor:
    """For every prompt the index of each slot's value, (N, slots)."""
    return torch.tensor(
        [
            [slot.index(value) for slot, value in zip(_SLOTS, _values(parse(prompt)), strict=True)]
            for prompt in prompts
        ]
    )


def _values(scene: Scene) -> tuple[str, ...]:
    items = [part for item in scene.items for part in (item.color, item.shape)]
    return (*items, *[""] * (4 - len(items)), scene.axis or "", scene.background)


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
    """An untrained encoder."""
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
