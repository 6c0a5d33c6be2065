"""The recipe of the shipped models runs from its first stage to its last as one command."""

import subprocess
import sys
from pathlib import Path

import torch
from diffusers import ControlNetModel, UNet2DConditionModel

from shapes.train.__main__ import INTERMEDIATE, STAGES
from shapes.train.loop import MODELS, rehearsal, scaled
from shapes.train.manifest import digests, read


def test_the_whole_recipe_runs_without_touching_what_ships(tmp_path: Path) -> None:
    shipped = digests(MODELS), read()
    command = [sys.executable, "-m", "shapes.train", "all", "--rehearse", str(tmp_path)]
    subprocess.run(command, check=True, capture_output=True, text=True)
    made = [name for name in STAGES if name not in INTERMEDIATE]
    assert set(read(tmp_path / "models")) == set(made)
    for name, entry in read(tmp_path / "models").items():
        assert entry["files"] == digests(tmp_path / "models" / name) != {}
    assert (digests(MODELS), read()) == shipped
    unet = UNet2DConditionModel.from_pretrained(tmp_path / "models/base/unet")
    controlnet = ControlNetModel.from_pretrained(tmp_path / "models/editor_controlnet_ip2p")
    assert controlnet.config.cross_attention_dim == unet.config.cross_attention_dim
    assert all(torch.isfinite(weight).all() for weight in controlnet.parameters())


def test_an_unknown_stage_is_said_so() -> None:
    command = [sys.executable, "-m", "shapes.train", "base", "bass"]
    answer = subprocess.run(command, capture_output=True, text=True)
    assert answer.returncode == 2
    assert "no stage is called bass" in answer.stderr


def test_only_a_rehearsal_does_less() -> None:
    assert scaled(5000) == 5000
    with rehearsal(0.01):
        assert (scaled(5000), scaled(100), scaled(100, least=16), scaled(1)) == (50, 2, 16, 1)
    assert scaled(5000) == 5000
