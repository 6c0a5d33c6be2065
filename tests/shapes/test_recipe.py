"""The recipe of the shipped models runs from its first stage to its last as one command."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from diffusers import ControlNetModel, UNet2DConditionModel

from shapes.train.__main__ import INTERMEDIATE, NEEDED, STAGES, Folders, run_stage
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


def test_processes_take_several_stages_together(tmp_path: Path) -> None:
    """Some are shared, some are one's alone: nobody reads what another still writes."""
    stages = ["autoencoder", "text_encoder", "competent", "base"]
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    command = [*launch, "-m", "shapes.train", *stages, "--rehearse", str(tmp_path)]
    answer = subprocess.run(command, capture_output=True, text=True)
    assert answer.returncode == 0, answer.stderr
    made = read(tmp_path / "models")["base"]
    assert made["files"] == digests(tmp_path / "models" / "base") != {}
    assert made["command"] == f"torchrun --nproc-per-node 2 -m shapes.train base --rehearse {tmp_path}"


def test_a_stage_that_ends_before_it_is_done_leaves_what_was_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    at = Folders(tmp_path / "models", tmp_path / "build")

    def makes(content: str, fails: bool) -> Callable[[Folders, int], dict[str, float]]:
        def stage(at: Folders, _: int) -> dict[str, float]:
            at.of("critic").mkdir(parents=True)
            (at.of("critic") / "model.safetensors").write_text(content)
            if fails:
                raise KeyboardInterrupt
            return {"precision": 1.0}

        return stage

    monkeypatch.setitem(STAGES, "critic", makes("former", fails=False))
    run_stage("critic", at, None)
    known = read(at.models)
    monkeypatch.setitem(STAGES, "critic", makes("half of the next", fails=True))
    with pytest.raises(KeyboardInterrupt):
        run_stage("critic", at, None)
    assert (at.of("critic") / "model.safetensors").read_text() == "former"
    assert read(at.models) == known
    monkeypatch.setitem(STAGES, "critic", makes("the next", fails=False))
    run_stage("critic", at, None)
    assert (at.of("critic") / "model.safetensors").read_text() == "the next"
    assert read(at.models)["critic"]["files"] == digests(at.of("critic")) != known["critic"]["files"]


def test_an_unknown_stage_is_said_so() -> None:
    command = [sys.executable, "-m", "shapes.train", "base", "bass"]
    answer = subprocess.run(command, capture_output=True, text=True)
    assert answer.returncode == 2
    assert "no stage is called bass" in answer.stderr


def test_a_stage_whose_start_does_not_ship_says_what_to_train_first(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "shapes.train", "base", "critic", "--rehearse", str(tmp_path)]
    answer = subprocess.run(command, capture_output=True, text=True, env=os.environ | {"COLUMNS": "300"})
    assert answer.returncode == 2
    assert f"base needs {tmp_path}/build/competent, which is not there" in answer.stderr
    assert "python -m shapes.train competent base" in answer.stderr
    assert not list(tmp_path.iterdir()), "it began"


def test_a_reward_model_is_trained_by_who_has_only_what_ships() -> None:
    shipped = [name for name in STAGES if name not in INTERMEDIATE]
    assert set(NEEDED["reward_clip"]) | set(NEEDED["reward_second"]) <= set(shipped)
    assert Folders().shipped_autoencoder.is_dir()


def test_only_a_rehearsal_does_less() -> None:
    assert scaled(5000) == 5000
    with rehearsal(0.01):
        assert (scaled(5000), scaled(100), scaled(100, least=16), scaled(1)) == (50, 2, 16, 1)
    assert scaled(5000) == 5000
