"""One pair as one row in the layout of Pick-a-Pic v2, with everything that led to it in further columns.

`jpg_0` and `jpg_1` hold the images as they lie in the store (lossless WebP, whatever the columns are called:
readers open them with Pillow); `label_0` is 1.0 where the first one is preferred, `label_1` where the second
one is. Which of the two is the preferred one follows from the pair's identifier, so that a reader which
ignores the labels learns nothing. There are no maps among the types: `datasets` cannot read them.
"""

from collections.abc import Mapping
from datetime import datetime
from hashlib import sha256
from typing import Any

import pyarrow as pa

from retouche.contract.jobs import PreferencePair

_TEXT = pa.string()
_MODEL = {"id": _TEXT, "revision": _TEXT}

PICK_A_PIC = {
    "jpg_0": pa.binary(),
    "jpg_1": pa.binary(),
    "label_0": pa.float64(),
    "label_1": pa.float64(),
    "caption": _TEXT,
    "are_different": pa.bool_(),
    "has_label": pa.bool_(),
    "best_image_uid": _TEXT,
    "image_0_uid": _TEXT,
    "image_1_uid": _TEXT,
    "model_0": _TEXT,
    "model_1": _TEXT,
    "ranking_id": pa.int64(),
    "user_id": pa.int64(),
    "created_at": pa.timestamp("us", "UTC"),
    "num_example_per_prompt": pa.int64(),
}
OURS = {
    "pair_id": _TEXT,
    "chosen_is_edit": pa.bool_(),
    "critique_description": _TEXT,
    "findings": pa.list_(pa.struct({"aspect": _TEXT, "subject": _TEXT, "problem": _TEXT})),
    "instruction": pa.struct({"action": _TEXT, "target": _TEXT, "text": _TEXT}),
    "scores": pa.list_(pa.struct({"reward": _TEXT, "image_0": pa.float64(), "image_1": pa.float64()})),
    "origin": _TEXT,
    "generation_model": pa.struct(_MODEL),
    "critique_model": pa.struct(_MODEL),
    "instruction_model": pa.struct(_MODEL),
    "editing_model": pa.struct(_MODEL),
    "reward_models": pa.list_(pa.struct({"reward": _TEXT, **_MODEL})),
    "generation_seed": pa.int64(),
    "editing_seed": pa.int64(),
    "prompt_index": pa.int64(),
    "image_index": pa.int64(),
}
SCHEMA = pa.schema(PICK_A_PIC | OURS)


def row(
    pair: PreferencePair, images: Mapping[str, bytes], pairs_of_prompt: int, created_at: datetime
) -> dict[str, Any]:
    """`images`: encoded, by reference; `pairs_of_prompt`: how many pairs this pair's prompt has."""
    hashed = int(sha256(pair.id.encode()).hexdigest()[:16], 16) >> 1
    first = hashed % 2 == 0
    references = (pair.chosen, pair.rejected) if first else (pair.rejected, pair.chosen)
    makers = [_maker(pair, reference) for reference in references]
    return {
        "jpg_0": images[references[0]],
        "jpg_1": images[references[1]],
        "label_0": float(first),
        "label_1": float(not first),
        "caption": pair.prompt,
        "are_different": True,
        "has_label": True,
        "best_image_uid": pair.chosen,
        "image_0_uid": references[0],
        "image_1_uid": references[1],
        "model_0": makers[0],
        "model_1": makers[1],
        "ranking_id": hashed,
        "user_id": None,  # no user of Pick-a-Pic ranked them
        "created_at": created_at,
        "num_example_per_prompt": pairs_of_prompt,
        **_origin(pair, first),
    }


def _origin(pair: PreferencePair, chosen_is_first: bool) -> dict[str, Any]:
    """What Pick-a-Pic has no column for: how the pair came to be."""
    zero, one = pair.chosen_scores, pair.rejected_scores
    if not chosen_is_first:
        zero, one = one, zero
    return {
        "pair_id": pair.id,
        "chosen_is_edit": pair.chosen_is_edit,
        "critique_description": pair.critique.description if pair.critique else None,
        "findings": [finding.model_dump() for finding in pair.findings],
        "instruction": pair.instruction.model_dump(),
        "scores": [{"reward": name, "image_0": zero[name], "image_1": one[name]} for name in sorted(zero)],
        "origin": pair.origin,
        **{f"{stage}_model": model for stage, model in pair.models.model_dump(exclude={"rewards"}).items()},
        "reward_models": [
            {"reward": name, **model.model_dump()} for name, model in sorted(pair.models.rewards.items())
        ],
        "generation_seed": pair.generation_seed,
        "editing_seed": pair.editing_seed,
        "prompt_index": pair.prompt_index,
        "image_index": pair.image_index,
    }


def _maker(pair: PreferencePair, reference: str) -> str:
    """The model that made the image; where it was there before, its origin."""
    return str(pair.models.editing if reference == pair.edited else pair.models.generation or pair.origin)
