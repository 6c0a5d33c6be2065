"""The LAION aesthetic predictor scores as computed by hand, whatever the prompt."""

from pathlib import Path

import pytest
import torch

from retouche.errors import ModelFailure
from retouche.profile import RewardChoice
from services.reward import aesthetic
from services.reward.judged import Judged
from tests.services import by_hand
from tests.services.clip_by_hand import seen
from tests.services.published import (
    EMBEDDING,
    PROMPTS,
    SIDE,
    Weights,
    clip_shapes,
    linear_head_shapes,
    pictures,
    random_weights,
    write_clip,
    write_weights,
)

CLIP = random_weights(clip_shapes())
HEAD = random_weights(linear_head_shapes(EMBEDDING))


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> str:
    return write_clip(tmp_path_factory.mktemp("base"), CLIP, "quick_gelu")


def choice(folder: Path, head: Weights, base: str) -> RewardChoice:
    return RewardChoice(kind="aesthetic", model=str(write_weights(folder, head)), base=base)


def test_the_rating_is_linear_in_the_unit_embedding(tmp_path: Path, base: str) -> None:
    images = pictures()
    model = aesthetic.load(choice(tmp_path, HEAD, base))
    for image, answer in zip(images, model([Judged(PROMPTS[0], image) for image in images]), strict=True):
        x = seen(CLIP, by_hand.cropped(image, SIDE, round), by_hand.quick_gelu)
        x = x / x.norm()
        for number in (0, 2, 4, 6, 7):
            x = by_hand.linear(x, by_hand.affine(HEAD, f"layers.{number}"))
        assert answer.raw == answer.published == pytest.approx(float(x), abs=1e-4)


def test_the_prompt_does_not_matter(tmp_path: Path, base: str) -> None:
    model = aesthetic.load(choice(tmp_path, HEAD, base))
    one, other = model([Judged(prompt, pictures()[0]) for prompt in PROMPTS[:2]])
    assert one.raw == pytest.approx(other.raw, abs=1e-5)


def test_a_head_that_does_not_fit_its_base_is_refused(tmp_path: Path, base: str) -> None:
    head = HEAD | {"layers.0.weight": torch.zeros(1024, 768)}
    with pytest.raises(ModelFailure, match=r"layers.0.weight is \[1024, 768\], not \[1024, 48\]"):
        aesthetic.load(choice(tmp_path, head, base))


def test_a_head_with_other_layers_is_refused(tmp_path: Path, base: str) -> None:
    head = {name.replace("layers.7", "layers.8"): tensor for name, tensor in HEAD.items()}
    with pytest.raises(ModelFailure) as refused:
        aesthetic.load(choice(tmp_path, head, base))
    assert "2 missing (layers.7.bias, layers.7.weight)" in refused.value.detail
    assert "2 not part of it (layers.8.bias, layers.8.weight)" in refused.value.detail
