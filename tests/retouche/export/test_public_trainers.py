"""The folder in the hands of the public trainers: what DiffusionDPO's train.py and diffusers'
train_diffusion_dpo.py do with a data set between its name and the first batch, by the same calls."""

import io
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import DataLoader

from retouche.client import Retouche
from retouche.export.folder import write_folder
from retouche.images import decode


def pixels(encoded: bytes) -> torch.Tensor:
    """Both scripts open the bytes with Pillow; what torchvision would do next is left out. (C, H, W)."""
    image = Image.open(io.BytesIO(encoded)).convert("RGB")
    return torch.from_numpy(np.array(image)).permute(2, 0, 1)


def preprocess(examples: dict[str, list[Any]]) -> dict[str, list[Any]]:
    """Chosen over rejected along the channels, by `label_0` alone; both scripts do the same."""
    both = [[pixels(encoded) for encoded in examples[name]] for name in ("jpg_0", "jpg_1")]
    turned = [
        torch.cat((second, first) if label == 0 else (first, second))
        for first, second, label in zip(*both, examples["label_0"], strict=True)
    ]
    assert all(isinstance(caption, str) for caption in examples["caption"])
    return {"pixel_values": turned, "caption": examples["caption"], "best": examples["best_image_uid"]}


def check_batches(data_set: datasets.Dataset, client: Retouche, pairs: int) -> None:
    """Every batch holds the chosen image first and the rejected one after it."""
    loader = DataLoader(data_set.with_transform(preprocess), batch_size=4, shuffle=True, drop_last=False)
    seen = 0
    for batch in loader:
        chosen_BCHW, rejected_BCHW = batch["pixel_values"].chunk(2, dim=1)
        for index, reference in enumerate(batch["best"]):
            expected = np.array(decode(client.image(reference)))
            assert np.array_equal(chosen_BCHW[index].permute(1, 2, 0).numpy(), expected)
            assert not torch.equal(chosen_BCHW[index], rejected_BCHW[index])
            seen += 1
    assert seen == pairs


@pytest.fixture
def folder(client: Retouche, job_id: str, tmp_path: Path) -> Path:
    """Its name makes DiffusionDPO treat it as Pick-a-Pic."""
    folder = tmp_path / "shapes_pickapic"
    write_folder(client, job_id, folder, validation=0.3, file_bytes=1)
    return folder


def test_diffusion_dpo(client: Retouche, folder: Path, tmp_path: Path) -> None:
    """--dataset_name FOLDER, --split train."""
    data_set = datasets.load_dataset(str(folder), None, cache_dir=str(tmp_path / "cache"), data_dir=None)
    assert "caption" in data_set["train"].column_names
    decided = [index for index, label in enumerate(data_set["train"]["label_0"]) if label in (0, 1)]
    assert len(decided) == data_set["train"].num_rows, "no row is a tie"
    models = zip(data_set["train"]["model_0"], data_set["train"]["model_1"], strict=True)
    assert not [pair for pair in models if "dream" in pair[0] and "dream" in pair[1]]
    shuffled = data_set["train"].select(decided).shuffle(seed=0).select(range(12))
    check_batches(shuffled, client, 12)


@pytest.mark.parametrize("split", ["train", "validation"])
def test_diffusers(client: Retouche, folder: Path, tmp_path: Path, split: str) -> None:
    """--dataset_name FOLDER, --dataset_split_name validation unless told otherwise."""
    data_set = datasets.load_dataset(str(folder), cache_dir=str(tmp_path / "cache"), split=split)
    check_batches(data_set.shuffle(seed=0).select(range(8)), client, 8)


def test_the_further_columns_survive_the_loader(folder: Path, tmp_path: Path) -> None:
    row = datasets.load_dataset(str(folder), cache_dir=str(tmp_path / "cache"), split="train")[0]
    assert row["instruction"]["text"] == "make it right"
    assert row["scores"][0]["reward"] == "clip"
    assert row["generation_model"] == {"id": "test", "revision": "0"}
