"""PickScore and CLIPScore: published CLIPModel checkpoints score as computed by hand."""

import math
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from PIL import Image

from retouche.errors import ModelFailure
from services.reward import clipscore, pickscore
from services.reward.reward_model import Judged, RewardModel
from serving.profile import RewardChoice
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
    clip_config,
    clip_shapes,
    clip_tokenizer,
    pictures,
    random_weights,
    write_clip_base,
    write_weights,
)

WEIGHTS = random_weights(clip_shapes())
Activation = Callable[[torch.Tensor], torch.Tensor]


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_clip_base(tmp_path_factory.mktemp("base"), "gelu")


def checkpoint(folder: Path, weights: Weights, activation: str = "gelu") -> str:
    """Weights and configuration, as PickScore_v1 has them; no tokenizer, no image processor."""
    write_weights(folder, weights)
    clip_config(activation).save_pretrained(folder)
    return str(folder)


def block(weights: Weights, layer: str) -> Block:
    def part(name: str) -> Affine:
        return affine(weights, f"{layer}.{name}")

    return Block(
        norm1=part("layer_norm1"),
        query=part("self_attn.q_proj"),
        key=part("self_attn.k_proj"),
        value=part("self_attn.v_proj"),
        out=part("self_attn.out_proj"),
        norm2=part("layer_norm2"),
        up=part("mlp.fc1"),
        down=part("mlp.fc2"),
    )


def read(weights: Weights, prompt: str, activation: Activation) -> torch.Tensor:
    """The prompt's embedding, from its last token."""
    tokens = clip_tokenizer()(prompt, truncation=True, max_length=77).input_ids
    x = weights["text_model.embeddings.token_embedding.weight"][tokens]
    x = x + weights["text_model.embeddings.position_embedding.weight"][: len(tokens)]
    for number in range(TEXT_LAYERS):
        layer = block(weights, f"text_model.encoder.layers.{number}")
        x = by_hand.run(layer, x, TEXT_HEADS, activation, causal=True)
    last = by_hand.normalise(x, affine(weights, "text_model.final_layer_norm"), 1e-5)[-1]
    return last @ weights["text_projection.weight"].T


def seen(weights: Weights, pixels: torch.Tensor, activation: Activation) -> torch.Tensor:
    """The picture's embedding, from the class token."""
    x = by_hand.patches(pixels, weights["vision_model.embeddings.patch_embedding.weight"])
    x = torch.cat([weights["vision_model.embeddings.class_embedding"][None], x])
    x = x + weights["vision_model.embeddings.position_embedding.weight"]
    x = by_hand.normalise(x, affine(weights, "vision_model.pre_layrnorm"), 1e-5)
    for number in range(VISION_LAYERS):
        layer = block(weights, f"vision_model.encoder.layers.{number}")
        x = by_hand.run(layer, x, VISION_HEADS, activation)
    first = by_hand.normalise(x[:1], affine(weights, "vision_model.post_layernorm"), 1e-5)[0]
    return first @ weights["visual_projection.weight"].T


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
    choice = RewardChoice(kind="pickscore", model=checkpoint(tmp_path, WEIGHTS), base=str(base))
    for image, row in zip(pictures(), scored(pickscore.load(choice)), strict=True):
        expected = cosines(image, by_hand.gelu)
        assert [raw for raw, _ in row] == pytest.approx(expected, abs=1e-4)
        printed = [each * math.exp(3.0) for each in expected]
        assert [published for _, published in row] == pytest.approx(printed, abs=1e-3)


def test_clipscore_is_the_cosine_and_in_print_a_hundredfold_never_negative(tmp_path: Path) -> None:
    write_clip_base(tmp_path, "quick_gelu")
    choice = RewardChoice(kind="clipscore", model=checkpoint(tmp_path, WEIGHTS, "quick_gelu"))
    for image, row in zip(pictures(), scored(clipscore.load(choice)), strict=True):
        expected = cosines(image, by_hand.quick_gelu)
        assert [raw for raw, _ in row] == pytest.approx(expected, abs=1e-4)
        printed = [100 * max(each, 0) for each in expected]
        assert [published for _, published in row] == pytest.approx(printed, abs=1e-2)


def test_a_position_buffer_of_older_checkpoints_does_no_harm(tmp_path: Path, base: Path) -> None:
    old = WEIGHTS | {"text_model.embeddings.position_ids": torch.arange(77)[None]}
    pickscore.load(RewardChoice(kind="pickscore", model=checkpoint(tmp_path, old), base=str(base)))


def test_missing_unknown_and_misshapen_tensors_are_named(tmp_path: Path, base: Path) -> None:
    weights = {name: tensor for name, tensor in WEIGHTS.items() if ".layers.1.mlp.fc1" not in name}
    weights |= {"head.weight": torch.zeros(2), "visual_projection.weight": torch.zeros(3, 4)}
    choice = RewardChoice(kind="pickscore", model=checkpoint(tmp_path, weights), base=str(base))
    with pytest.raises(ModelFailure) as refused:
        pickscore.load(choice)
    told = refused.value.detail
    assert "4 missing (text_model.encoder.layers.1.mlp.fc1.bias, " in told
    assert "1 not part of it (head.weight)" in told
    assert "1 of another shape (visual_projection.weight is [3, 4], not [48, 96])" in told
