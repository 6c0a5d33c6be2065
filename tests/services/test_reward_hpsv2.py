"""HPSv2: an open_clip checkpoint scores as computed by hand, margins of oblong pictures included."""

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from retouche.errors import ModelFailure
from retouche.profile import RewardChoice
from services.reward import hpsv2
from services.reward.judged import Judged
from tests.services import by_hand
from tests.services.by_hand import Affine, Block, affine
from tests.services.published import (
    PROMPTS,
    SIDE,
    TEXT_HEADS,
    TEXT_LAYERS,
    VISION_HEADS,
    VISION_LAYERS,
    Weights,
    clip_tokenizer,
    open_clip_shapes,
    pictures,
    random_weights,
    write_clip_base,
    write_weights,
)

WEIGHTS = random_weights(open_clip_shapes())


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(write_clip_base(tmp_path_factory.mktemp("base"), "gelu"))


def block(layer: str) -> Block:
    def part(name: str) -> Affine:
        return affine(WEIGHTS, f"{layer}.{name}")

    fused = zip(
        WEIGHTS[f"{layer}.attn.in_proj_weight"].chunk(3),
        WEIGHTS[f"{layer}.attn.in_proj_bias"].chunk(3),
        strict=True,
    )
    query, key, value = fused
    return Block(
        norm1=part("ln_1"),
        query=query,
        key=key,
        value=value,
        out=part("attn.out_proj"),
        norm2=part("ln_2"),
        up=part("mlp.c_fc"),
        down=part("mlp.c_proj"),
    )


def read(prompt: str) -> torch.Tensor:
    tokens = clip_tokenizer()(prompt, truncation=True, max_length=77).input_ids
    x = WEIGHTS["token_embedding.weight"][tokens] + WEIGHTS["positional_embedding"][: len(tokens)]
    for number in range(TEXT_LAYERS):
        x = by_hand.run(block(f"transformer.resblocks.{number}"), x, TEXT_HEADS, by_hand.gelu, causal=True)
    return by_hand.normalise(x, affine(WEIGHTS, "ln_final"), 1e-5)[-1] @ WEIGHTS["text_projection"]


def seen(pixels: torch.Tensor) -> torch.Tensor:
    x = by_hand.patches(pixels, WEIGHTS["visual.conv1.weight"])
    x = torch.cat([WEIGHTS["visual.class_embedding"][None], x]) + WEIGHTS["visual.positional_embedding"]
    x = by_hand.normalise(x, affine(WEIGHTS, "visual.ln_pre"), 1e-5)
    for number in range(VISION_LAYERS):
        x = by_hand.run(block(f"visual.transformer.resblocks.{number}"), x, VISION_HEADS, by_hand.gelu)
    return by_hand.normalise(x[:1], affine(WEIGHTS, "visual.ln_post"), 1e-5)[0] @ WEIGHTS["visual.proj"]


def cubic(distance: float) -> float:
    """Keys' kernel with a = -1/2."""
    x = abs(distance)
    if x < 1:
        return 1.5 * x**3 - 2.5 * x**2 + 1
    return -0.5 * x**3 + 2.5 * x**2 - 4 * x + 2 if x < 2 else 0.0


def resampling(before: int, after: int) -> "np.ndarray[tuple[int, ...], np.dtype[np.float64]]":
    """(after, before): what each new pixel takes of each old one; the kernel widens when there are fewer."""
    stretch = max(before / after, 1.0)
    centres = [(row + 0.5) * before / after for row in range(after)]
    rows = [[cubic((column + 0.5 - centre) / stretch) for column in range(before)] for centre in centres]
    return np.array([np.array(row) / sum(row) for row in rows])


def letterboxed(image: Image.Image) -> torch.Tensor:
    """The longest side at SIDE, nothing cut off, zeros around."""
    picture = np.asarray(image) / 255.0
    height, width = (round(length * SIDE / max(image.size)) for length in picture.shape[:2])
    narrow = np.einsum("xj,ijc->ixc", resampling(image.width, width), picture)
    small = np.einsum("yi,ixc->yxc", resampling(image.height, height), narrow)
    boxed = np.zeros((SIDE, SIDE, 3))
    top, left = (SIDE - height) // 2, (SIDE - width) // 2
    boxed[top : top + height, left : left + width] = small
    return by_hand.standardised(boxed)


def write(folder: Path, weights: Weights) -> str:
    return str(write_weights(folder, weights))


def test_hpsv2_is_the_cosine_and_in_print_a_hundredfold(tmp_path: Path, base: str) -> None:
    model = hpsv2.load(RewardChoice(kind="hpsv2", model=write(tmp_path, WEIGHTS), base=base))
    images = pictures()
    answers = iter(model([Judged(prompt, image) for image in images for prompt in PROMPTS]))
    for image in images:
        picture = seen(letterboxed(image))
        for prompt in PROMPTS:
            answer, expected = next(answers), by_hand.cosine(picture, read(prompt))
            assert answer.raw == pytest.approx(expected, abs=1e-4)
            assert answer.published == pytest.approx(100 * expected, abs=1e-2)


def test_an_oblong_picture_is_not_cut(tmp_path: Path, base: str) -> None:
    """A CLIP processor's centre crop would give another score: these pictures are HPSv2's own trap."""
    model = hpsv2.load(RewardChoice(kind="hpsv2", model=write(tmp_path, WEIGHTS), base=base))
    wide = pictures()[0]
    (answer,) = model([Judged(PROMPTS[0], wide)])
    cut = by_hand.cosine(seen(by_hand.cropped(wide, SIDE, math.floor)), read(PROMPTS[0]))
    assert abs(answer.raw - cut) > 1e-3


def test_missing_and_misshapen_tensors_are_named_as_open_clip_names_them(tmp_path: Path, base: str) -> None:
    weights = {name: tensor for name, tensor in WEIGHTS.items() if "visual.transformer" not in name}
    weights["token_embedding.weight"] = torch.zeros(3, 4)
    with pytest.raises(ModelFailure) as refused:
        hpsv2.load(RewardChoice(kind="hpsv2", model=write(tmp_path, weights), base=base))
    told = refused.value.detail
    assert "36 missing (visual.transformer.resblocks.0.attn.in_proj_bias, " in told
    assert "token_embedding.weight is [3, 4], not [54, 64]" in told


def test_what_the_weights_come_without_must_be_named(tmp_path: Path) -> None:
    """Transformers would take the sizes of another CLIP for it."""
    with pytest.raises(ModelFailure, match=r"has no config\.json; as `base` of the reward model"):
        hpsv2.load(RewardChoice(kind="hpsv2", model=write(tmp_path, WEIGHTS)))
