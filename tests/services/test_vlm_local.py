"""The vision-language model in this process: a checkpoint that is not one is named before it is asked."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from transformers import AutoTokenizer, Qwen2VLImageProcessorPil

from retouche.errors import ModelFailure
from retouche.images import MAX_PROPORTION, encode
from services.critique.messages import ask
from services.vlm.chat import Asked
from services.vlm.local import Reader, load
from shapes.train.loop import MODELS

CRITIC, WEIGHTS = MODELS / "critic", "model.safetensors"
MISSING = ("visual.patch_embed.proj.weight", "visual.merger.ln_q.weight")


def two_missing(folder: Path) -> None:
    weights = load_file(CRITIC / WEIGHTS)
    save_file({name: tensor for name, tensor in weights.items() if name not in MISSING}, folder / WEIGHTS)


def another_model(folder: Path) -> None:
    shutil.copy(MODELS / "reward_clip" / WEIGHTS, folder / WEIGHTS)


def a_pickle(folder: Path) -> None:
    torch.save(load_file(folder / WEIGHTS), folder / "pytorch_model.bin")
    (folder / WEIGHTS).unlink()


@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        (two_missing, "2 missing (model.visual.merger.ln_q.weight, model.visual.patch_embed.proj.weight)"),
        (another_model, "not part of it (logit_scale, "),
        (a_pickle, "pytorch_model.bin is a pickle, which may run code when it is read"),
    ],
)
def test_what_is_wrong_with_a_checkpoint_is_named(
    tmp_path: Path, spoil: Callable[[Path], None], says: str
) -> None:
    folder = Path(shutil.copytree(CRITIC, tmp_path / "critic"))
    spoil(folder)
    with pytest.raises(ModelFailure) as refused:
        load(str(folder), None, "float32", max_answer_tokens=8)
    assert str(folder) in refused.value.detail
    assert says in refused.value.detail


@pytest.mark.parametrize("size", [(16 * MAX_PROPORTION, 16), (MAX_PROPORTION, 1), (1, MAX_PROPORTION)])
def test_the_most_oblong_picture_there_may_be_is_read(size: tuple[int, int]) -> None:
    reader = Reader(AutoTokenizer.from_pretrained(CRITIC), Qwen2VLImageProcessorPil.from_pretrained(CRITIC))
    (read,) = reader([Asked(ask("a red circle"), encode(Image.new("RGB", size)))])
    assert len(read.patches) == read.grid.prod()
