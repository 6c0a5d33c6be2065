"""ImageReward: a checkpoint in BLIP's names scores as computed by hand."""

from pathlib import Path

import pytest
import torch
from PIL import Image

from retouche.errors import ModelFailure
from retouche.profile import RewardChoice
from services.reward import imagereward
from services.reward.imagereward_network import ImageRewardNetwork, Sizes
from services.reward.judged import Judged
from tests.services import by_hand
from tests.services.by_hand import Affine, Block, affine
from tests.services.published import (
    BLIP_TEXT_WIDTH,
    BLIP_VISION_WIDTH,
    PROMPTS,
    SIDE,
    TEXT_LAYERS,
    VISION_LAYERS,
    Weights,
    bert_tokenizer,
    image_reward_shapes,
    pictures,
    random_weights,
    write_image_reward,
)

WEIGHTS = random_weights(image_reward_shapes())
VISION_HEADS, TEXT_HEADS = BLIP_VISION_WIDTH // 64, BLIP_TEXT_WIDTH // 64
EYE, READER = "blip.visual_encoder", "blip.text_encoder"


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("bert")
    bert_tokenizer().save_pretrained(folder)
    return str(folder)


def choice(folder: Path, weights: Weights, base: str) -> RewardChoice:
    return RewardChoice(kind="imagereward", model=write_image_reward(folder, weights), base=base)


def vision_block(number: int) -> Block:
    def part(name: str) -> Affine:
        return affine(WEIGHTS, f"{EYE}.blocks.{number}.{name}")

    fused, bias = part("attn.qkv")
    query, key, value = zip(fused.chunk(3), bias.chunk(3), strict=True)
    return Block(
        norm1=part("norm1"),
        query=query,
        key=key,
        value=value,
        out=part("attn.proj"),
        norm2=part("norm2"),
        up=part("mlp.fc1"),
        down=part("mlp.fc2"),
    )


def seen(image: Image.Image) -> torch.Tensor:
    pixels = by_hand.cropped(image, SIDE, round)
    x = by_hand.patches(pixels, WEIGHTS[f"{EYE}.patch_embed.proj.weight"])
    x = torch.cat([WEIGHTS[f"{EYE}.cls_token"][0], x + WEIGHTS[f"{EYE}.patch_embed.proj.bias"]])
    x = x + WEIGHTS[f"{EYE}.pos_embed"][0]
    for number in range(VISION_LAYERS):
        x = by_hand.run(vision_block(number), x, VISION_HEADS, by_hand.gelu, epsilon=1e-6)
    return by_hand.normalise(x, affine(WEIGHTS, f"{EYE}.norm"), 1e-6)


def attention(x: torch.Tensor, context: torch.Tensor, name: str) -> torch.Tensor:
    query = by_hand.linear(x, affine(WEIGHTS, f"{name}.self.query"))
    key = by_hand.linear(context, affine(WEIGHTS, f"{name}.self.key"))
    value = by_hand.linear(context, affine(WEIGHTS, f"{name}.self.value"))
    return added(by_hand.attend(query, key, value, TEXT_HEADS), x, f"{name}.output")


def added(change: torch.Tensor, x: torch.Tensor, name: str) -> torch.Tensor:
    changed = x + by_hand.linear(change, affine(WEIGHTS, f"{name}.dense"))
    return by_hand.normalise(changed, affine(WEIGHTS, f"{name}.LayerNorm"), 1e-12)


def reward(picture: torch.Tensor, prompt: str) -> float:
    """The head's answer to the class token of the prompt, which has looked at the picture."""
    tokens = bert_tokenizer()(prompt, truncation=True, max_length=35).input_ids
    x = WEIGHTS[f"{READER}.embeddings.word_embeddings.weight"][tokens]
    x = x + WEIGHTS[f"{READER}.embeddings.position_embeddings.weight"][: len(tokens)]
    x = by_hand.normalise(x, affine(WEIGHTS, f"{READER}.embeddings.LayerNorm"), 1e-12)
    for number in range(TEXT_LAYERS):
        layer = f"{READER}.encoder.layer.{number}"
        x = attention(x, x, f"{layer}.attention")
        x = attention(x, picture, f"{layer}.crossattention")
        wide = by_hand.gelu(by_hand.linear(x, affine(WEIGHTS, f"{layer}.intermediate.dense")))
        x = added(wide, x, f"{layer}.output")
    answer = x[0]
    for number in (0, 2, 4, 6, 7):
        answer = by_hand.linear(answer, affine(WEIGHTS, f"mlp.layers.{number}"))
    return float(answer)


def test_imagereward_is_what_blip_answers_and_in_print_standardised(tmp_path: Path, base: str) -> None:
    model = imagereward.load(choice(tmp_path, WEIGHTS, base))
    images = pictures()
    answers = iter(model([Judged(prompt, image) for image in images for prompt in PROMPTS]))
    for image in images:
        picture = seen(image)
        for prompt in PROMPTS:
            answer, expected = next(answers), reward(picture, prompt)
            assert answer.raw == pytest.approx(expected, abs=1e-4)
            standardised = (expected - 0.16717362830052426) / 1.0333394966054072
            assert answer.published == pytest.approx(standardised, abs=1e-4)


def test_missing_layers_are_named(tmp_path: Path, base: str) -> None:
    """The last layer too, which sizes read from the weights would not miss."""
    weights = {name: tensor for name, tensor in WEIGHTS.items() if ".encoder.layer.1." not in name}
    with pytest.raises(ModelFailure, match=r"26 missing \(blip\.text_encoder\.encoder\.layer\.1\.attention"):
        imagereward.load(choice(tmp_path, weights, base))


def test_without_other_sizes_they_are_the_published_ones() -> None:
    with torch.device("meta"):
        network = ImageRewardNetwork(Sizes())
    shapes = {name: tuple(tensor.shape) for name, tensor in network.state_dict().items()}
    assert shapes["blip.visual_encoder.pos_embed"] == (1, 197, 1024)
    assert shapes["blip.visual_encoder.blocks.23.attn.qkv.weight"] == (3072, 1024)
    assert shapes["blip.text_encoder.embeddings.word_embeddings.weight"] == (30524, 768)
    assert shapes["blip.text_encoder.encoder.layer.11.crossattention.self.key.weight"] == (768, 1024)
    assert shapes["mlp.layers.0.weight"] == (1024, 768)
