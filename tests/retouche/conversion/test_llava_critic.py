"""LLaVA-Critic's weights renamed: the same numbers as in LLaVA-NeXT's arrangement; what is wrong, named."""

import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoTokenizer, LlavaOnevisionForConditionalGeneration
from transformers.models.llava_onevision.image_processing_pil_llava_onevision import (
    LlavaOnevisionImageProcessorPil,
)
from typer.testing import CliRunner

from retouche.cli.main import app
from retouche.conversion.llava_critic import convert
from retouche.errors import BadRequest
from tests.retouche.conversion.llava_next import (
    IMAGE_NEWLINE,
    PICTURE,
    TEXT,
    Original,
    picture,
    random_original,
    tiles,
    write,
)

SIZES = [(28, 28), (56, 56), (90, 31), (33, 120), (168, 112), (300, 80)]


@pytest.fixture(scope="module")
def original() -> Original:
    return random_original()


@pytest.fixture(scope="module")
def converted(original: Original, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("llava")
    convert(write(folder / "source", original.weights()), folder / "target")
    return folder / "target"


@pytest.mark.parametrize("size", SIZES)
def test_the_logits_are_those_of_the_original_arrangement(
    original: Original, converted: Path, size: tuple[int, int]
) -> None:
    load: Any = LlavaOnevisionForConditionalGeneration.from_pretrained  # typed as if it never gave a report
    model, report = load(converted, output_loading_info=True)
    assert not report["missing_keys"]
    assert not report["unexpected_keys"]
    words = random.Random(0).choices(range(100, 900), k=7)
    image, ids = picture(size), [*words[:3], PICTURE, *words[3:]]
    count = len(original.picture(image))
    expanded = [*words[:3], *[model.config.image_token_id] * count, *words[3:]]
    with torch.inference_mode():
        logits = model(
            input_ids=torch.tensor([expanded]),
            pixel_values=tiles(image)[None],
            image_sizes=torch.tensor([[image.height, image.width]]),
        ).logits[0]
    torch.testing.assert_close(
        logits[:, : TEXT.vocab_size], original.logits(ids, image), atol=1e-5, rtol=1e-4
    )


@pytest.mark.parametrize("size", SIZES)
def test_the_processor_cuts_pictures_as_the_original_does(converted: Path, size: tuple[int, int]) -> None:
    processor = LlavaOnevisionImageProcessorPil.from_pretrained(converted)
    pixels = processor(picture(size), return_tensors="pt").pixel_values[0]
    torch.testing.assert_close(pixels, tiles(picture(size)), atol=1e-5, rtol=0)


def test_a_picture_has_a_token_and_a_chat_its_template(converted: Path) -> None:
    tokenizer: Any = AutoTokenizer.from_pretrained(converted)
    config = json.loads((converted / "config.json").read_text())
    assert tokenizer.convert_tokens_to_ids("<image>") == config["image_token_index"]
    part = {"type": "image_url", "image_url": {"url": "data:,"}}
    message = {"role": "user", "content": [part, {"type": "text", "text": "what is wrong?"}]}
    assert tokenizer.apply_chat_template([message], tokenize=False, add_generation_prompt=True) == (
        "<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n"
        "<|im_start|>user\n<image>\nwhat is wrong?<|im_end|>\n<|im_start|>assistant\n"
    )


def test_half_precision_is_kept_bit_for_bit(tmp_path: Path) -> None:
    weights = random_original(torch.bfloat16).weights()
    convert(write(tmp_path / "source", weights), tmp_path / "target")
    written = {
        name: tensor
        for file in (tmp_path / "target").glob("*.safetensors")
        for name, tensor in load_file(file).items()
    }
    assert len(written) == len(weights)
    assert torch.equal(written["image_newline"], weights[IMAGE_NEWLINE])
    embedding = written["language_model.model.embed_tokens.weight"]
    assert torch.equal(embedding[: TEXT.vocab_size], weights["model.embed_tokens.weight"])
    assert embedding.shape[0] == TEXT.vocab_size + 2, "room for <image> and <video>"


def test_the_command_says_what_it_wrote(original: Original, tmp_path: Path) -> None:
    source = write(tmp_path / "source", original.weights())
    target = tmp_path / "new" / "target[v2]"
    wide = {"COLUMNS": "300"}
    done = CliRunner().invoke(app, ["convert", "llava-critic", str(source), str(target)], env=wide)
    assert done.exit_code == 0, done.output
    assert (target / "config.json").is_file()
    assert f"vllm serve {target}`" in done.stderr


def refusal(source: Path) -> str:
    """What is said about a checkpoint; nothing is left beside it."""
    before = sorted(source.parent.iterdir())
    with pytest.raises(BadRequest) as refused:
        convert(source, source.parent / "target")
    assert sorted(source.parent.iterdir()) == before
    return refused.value.detail


def test_missing_unknown_and_misshapen_tensors_are_named(original: Original, tmp_path: Path) -> None:
    weights = original.weights()
    del weights["model.mm_projector.2.bias"], weights["model.layers.1.self_attn.q_proj.bias"]
    weights["model.vision_resampler.query"] = torch.zeros(2)
    weights[IMAGE_NEWLINE] = torch.zeros(3)
    said = refusal(write(tmp_path / "source", weights))
    assert "2 missing (model.layers.1.self_attn.q_proj.bias, model.mm_projector.2.bias)" in said
    assert "1 not part of it (model.vision_resampler.query)" in said
    assert "1 of another shape (model.image_newline is [3], not [64])" in said


def test_a_checkpoint_without_its_vision_tower_is_named(original: Original, tmp_path: Path) -> None:
    weights = {name: tensor for name, tensor in original.weights().items() if "vision_tower" not in name}
    assert "its vision tower is not in the checkpoint" in refusal(write(tmp_path / "source", weights))


def test_a_pickle_is_named_and_never_read(original: Original, tmp_path: Path) -> None:
    source = write(tmp_path / "source", original.weights())
    for file in source.glob("*.safetensors"):
        file.unlink()
    torch.save(original.weights(), source / "pytorch_model.bin")
    assert "pytorch_model.bin is a pickle, which may run code" in refusal(source)
    (source / "pytorch_model.bin").rename(source / "model.safetensors")
    (source / "model.safetensors.index.json").unlink()
    assert "model.safetensors is a pickle under another name" in refusal(source)


def test_a_file_cut_short_or_absent_is_named(original: Original, tmp_path: Path) -> None:
    source = write(tmp_path / "source", original.weights())
    second = source / "model-00002-of-00002.safetensors"
    second.write_bytes(second.read_bytes()[:-10])
    assert "model-00002-of-00002.safetensors has" in refusal(source)
    second.write_bytes(b"\x10\x00\x00\x00\x00\x00\x00\x00 no header at all")
    assert "model-00002-of-00002.safetensors is not a safetensors file" in refusal(source)
    second.unlink()
    assert "model-00002-of-00002.safetensors is in model.safetensors.index.json but not there" in refusal(
        source
    )


@pytest.mark.parametrize(
    ("field", "value", "complaint"),
    [
        ("architectures", ["Qwen2ForCausalLM"], "architectures ('Qwen2ForCausalLM',)"),
        ("mm_projector_type", "linear", "mm_projector_type 'linear'"),
        ("mm_patch_merge_type", "flat", "mm_patch_merge_type 'flat'"),
        ("image_aspect_ratio", "pad", "image_aspect_ratio 'pad'"),
        ("image_grid_pinpoints", None, "image_grid_pinpoints"),
        ("num_hidden_layers", 3, "12 missing (model.layers.2."),
    ],
)
def test_another_model_is_named(
    original: Original, tmp_path: Path, field: str, value: object, complaint: str
) -> None:
    source = write(tmp_path / "source", original.weights())
    config = json.loads((source / "config.json").read_text())
    (source / "config.json").write_text(json.dumps(config | {field: value}))
    assert complaint in refusal(source)


@pytest.mark.parametrize("name", ["config.json", "tokenizer.json"])
@pytest.mark.parametrize("damage", [Path.unlink, lambda path: path.write_text("{}")], ids=["gone", "empty"])
def test_a_file_beside_the_weights_is_named(
    original: Original, tmp_path: Path, name: str, damage: Callable[[Path], object]
) -> None:
    source = write(tmp_path / "source", original.weights())
    damage(source / name)
    assert name in refusal(source)


def test_what_is_there_is_not_written_over(original: Original, tmp_path: Path) -> None:
    source = write(tmp_path / "source", original.weights())
    save_file({"precious": torch.zeros(1)}, tmp_path / "target")
    with pytest.raises(BadRequest, match="is there already"):
        convert(source, tmp_path / "target")
    assert load_file(tmp_path / "target").keys() == {"precious"}
