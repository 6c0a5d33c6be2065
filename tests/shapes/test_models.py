"""The shipped models: the manifest is true, they are small, and rewards know an attribute."""

import pytest

from shapes.train.loop import MODELS
from shapes.train.manifest import MOST_BYTES, digests, read
from shapes.train.reward_quality import pair_accuracy


def test_the_manifest_names_every_shipped_file() -> None:
    folders = {path.name for path in MODELS.iterdir() if path.is_dir()}
    assert set(read()) == folders
    for name, entry in read().items():
        assert entry["files"] == digests(MODELS / name), f"{name} is not what the manifest says"
        assert entry["command"]
        assert entry["quality"]


def test_all_models_together_are_small() -> None:
    assert sum(path.stat().st_size for path in MODELS.rglob("*.safetensors")) <= MOST_BYTES


@pytest.mark.parametrize("name", ["reward_clip", "reward_second"])
def test_rewards_prefer_the_right_attribute(name: str) -> None:
    accuracy = pair_accuracy(MODELS / name)
    flips = [accuracy[aspect] for aspect in ("color", "shape", "background")]
    assert sum(flips) / len(flips) >= 0.9, accuracy
