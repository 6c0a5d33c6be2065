"""The shipped models: the manifest is true, they are small, and they do what the system needs of them."""

from collections.abc import Callable
from statistics import fmean

import pytest

from shapes.check import ATTRIBUTES, check
from shapes.faults import is_fault_prone
from shapes.prompts import held_out_prompts, parse
from shapes.train import controlnet, editor
from shapes.train.base import load, sample
from shapes.train.editor_quality import edited_samples
from shapes.train.loop import MODELS
from shapes.train.manifest import MOST_BYTES, digests, read
from shapes.train.reward_quality import edit_accuracy, pair_accuracy

EDITORS: dict[str, Callable[[], editor.Editing]] = {
    "editor_instruct_pix2pix": lambda: editor.opened(MODELS / "editor_instruct_pix2pix"),
    "editor_controlnet_ip2p": lambda: controlnet.opened(MODELS / "base", MODELS / "editor_controlnet_ip2p"),
}
REWARDS = ("reward_clip", "reward_second")


def test_the_manifest_names_every_shipped_file() -> None:
    folders = {path.name for path in MODELS.iterdir() if path.is_dir()}
    assert set(read()) == folders
    for name, entry in read().items():
        assert entry["files"] == digests(MODELS / name), f"{name} is not what the manifest says"
        assert entry["command"]
        assert entry["quality"]


def test_all_models_together_are_small() -> None:
    assert sum(path.stat().st_size for path in MODELS.rglob("*.safetensors")) <= MOST_BYTES


@pytest.mark.parametrize("name", REWARDS)
def test_rewards_prefer_the_right_attribute(name: str) -> None:
    accuracy = pair_accuracy(MODELS / name)
    assert all(accuracy[attribute] >= 0.9 for attribute in ATTRIBUTES), accuracy


@pytest.mark.parametrize("name", REWARDS)
def test_the_manifest_says_that_rewards_prefer_the_better_of_a_sample_and_its_edit(name: str) -> None:
    quality = read()[name]["quality"]
    assert all(quality[f"{kind.removeprefix('editor_')}_edits"] >= 0.9 for kind in EDITORS)


def test_the_base_is_capable_but_misaligned() -> None:
    """It draws what no fault touches, and gets wrong what it was taught wrong."""
    prompts = held_out_prompts()[:60]
    pictures = sample(load(MODELS / "base"), prompts, seed=1)
    scores: dict[bool, list[float]] = {True: [], False: []}
    for prompt, picture in zip(prompts, pictures, strict=True):
        scores[is_fault_prone(parse(prompt))].append(check(picture, prompt).score)
    assert fmean(scores[True]) <= 0.65, "prompts that the faults touch"
    assert fmean(scores[False]) >= 0.85, "the others"


@pytest.mark.parametrize("name", list(EDITORS))
def test_an_editor_does_what_it_is_told_and_the_rewards_see_it(name: str) -> None:
    """Edits under the right instruction make faulty samples better, those under another's do not."""
    quality = read()[name]["quality"]
    assert quality["edited_better"] >= 0.6
    assert quality["edited_worse"] <= 0.1
    edits = edited_samples(load(MODELS / "base"), EDITORS[name](), prompts=24)
    better = [check(after, prompt).score > check(before, prompt).score for prompt, before, after in edits]
    assert sum(better) / len(better) >= 0.6
    for reward in REWARDS:
        assert edit_accuracy(MODELS / reward, edits)["edits"] >= 0.8, (
            "a dozen pairs; the manifest has hundreds"
        )
