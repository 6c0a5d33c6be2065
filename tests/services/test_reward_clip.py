"""PickScore and CLIPScore: published CLIPModel checkpoints score as computed by hand."""

import math
from pathlib import Path

import pytest
import torch
from PIL import Image

from retouche.errors import ModelFailure
from retouche.profile import RewardChoice
from services.reward import clipscore, pickscore
from services.reward.judged import Judged
from services.reward.reward_model import RewardModel
from tests.services import by_hand
from tests.services.clip_by_hand import Activation, read, seen
from tests.services.published import (
    PROMPTS,
    SIDE,
    clip_shapes,
    pictures,
    random_weights,
    write_clip,
    write_clip_base,
)

WEIGHTS = random_weights(clip_shapes())


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_clip_base(tmp_path_factory.mktemp("base"), "gelu")


def cosines(image: Image.Image, activation: Activation) -> list[float]:
    """Under each of PROMPTS; a CLIP processor rounds an odd margin down."""
    picture = seen(WEIGHTS, by_hand.cropped(image, SIDE, math.floor), activation)
    return [by_hand.cosine(picture, read(WEIGHTS, prompt, activation)) for prompt in PROMPTS]


def scored(model: RewardModel) -> list[list[tuple[float, float]]]:
    """Raw and published, by picture and prompt, all in one batch."""
    images = pictures()
    answers = model([Judged(prompt, image) for image in images for prompt in PROMPTS])
    flat = [(answer.raw, answer.published) for answer in answers]
    return [flat[row : row + len(PROMPTS)] for row in range(0, len(flat), len(PROMPTS))]


def test_pickscore_is_the_cosine_and_in_print_the_cosine_times_the_temperature(
    tmp_path: Path, base: Path
) -> None:
    choice = RewardChoice(kind="pickscore", model=write_clip(tmp_path, WEIGHTS), base=str(base))
    for image, row in zip(pictures(), scored(pickscore.load(choice)), strict=True):
        expected = cosines(image, by_hand.gelu)
        assert [raw for raw, _ in row] == pytest.approx(expected, abs=1e-4)
        printed = [each * math.exp(3.0) for each in expected]
        assert [published for _, published in row] == pytest.approx(printed, abs=1e-3)


def test_clipscore_is_the_cosine_and_in_print_a_hundredfold_never_negative(tmp_path: Path) -> None:
    write_clip_base(tmp_path, "quick_gelu")
    choice = RewardChoice(kind="clipscore", model=write_clip(tmp_path, WEIGHTS, "quick_gelu"))
    for image, row in zip(pictures(), scored(clipscore.load(choice)), strict=True):
        expected = cosines(image, by_hand.quick_gelu)
        assert [raw for raw, _ in row] == pytest.approx(expected, abs=1e-4)
        printed = [100 * max(each, 0) for each in expected]
        assert [published for _, published in row] == pytest.approx(printed, abs=1e-2)


def test_a_position_buffer_of_older_checkpoints_does_no_harm(tmp_path: Path, base: Path) -> None:
    old = WEIGHTS | {"text_model.embeddings.position_ids": torch.arange(77)[None]}
    pickscore.load(RewardChoice(kind="pickscore", model=write_clip(tmp_path, old), base=str(base)))


def test_missing_unknown_and_misshapen_tensors_are_named(tmp_path: Path, base: Path) -> None:
    weights = {name: tensor for name, tensor in WEIGHTS.items() if ".layers.1.mlp.fc1" not in name}
    weights |= {"head.weight": torch.zeros(2), "visual_projection.weight": torch.zeros(3, 4)}
    choice = RewardChoice(kind="pickscore", model=write_clip(tmp_path, weights), base=str(base))
    with pytest.raises(ModelFailure) as refused:
        pickscore.load(choice)
    told = refused.value.detail
    assert "4 missing (text_model.encoder.layers.1.mlp.fc1.bias, " in told
    assert "1 not part of it (head.weight)" in told
    assert "1 of another shape (visual_projection.weight is [3, 4], not [48, 96])" in told


def test_a_prompt_is_read_once_and_the_same_whoever_is_asked_about_beside_it(tmp_path: Path) -> None:
    write_clip_base(tmp_path, "quick_gelu")
    choice = RewardChoice(kind="clipscore", model=write_clip(tmp_path, WEIGHTS, "quick_gelu"))
    image = pictures()[0]
    pair = [Judged(prompt, image) for prompt in PROMPTS[:2]]
    remembering, fresh = clipscore.load(choice), clipscore.load(choice)
    together, again = remembering(pair), remembering(pair)
    assert again == together
    alone = [fresh([judged, judged])[0] for judged in pair]
    assert alone == together


def test_a_score_that_is_no_number_names_the_model_and_the_way_out(tmp_path: Path) -> None:
    """Half precision ends at 65,504: beyond it embeddings are infinite, and their cosine is none."""
    write_clip_base(tmp_path, "quick_gelu")
    beyond = WEIGHTS | {"visual_projection.weight": 60_000 * torch.ones(48, 96)}
    folder = write_clip(tmp_path, beyond, "quick_gelu")
    model = clipscore.load(RewardChoice(kind="clipscore", model=folder, dtype="float16"))
    (image, *_) = pictures()
    assert model.features is not None
    for ask in (lambda: model([Judged(PROMPTS[0], image)]), lambda: model.features([image])):
        with pytest.raises(ModelFailure) as failed:
            ask()
        assert f"clipscore {folder} gave " in failed.value.detail
        assert "in float16: give it `dtype: float32` in the profile" in failed.value.detail
