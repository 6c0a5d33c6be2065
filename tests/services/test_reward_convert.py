"""Pickles: converted by hand where they hold tensors alone, refused wherever safetensors are expected."""

import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from retouche.errors import BadRequest, ModelFailure
from retouche.profile import RewardChoice
from services.reward import aesthetic, hpsv2, pickscore
from services.reward.convert import convert
from tests.services.published import (
    EMBEDDING,
    Weights,
    clip_shapes,
    linear_head_shapes,
    open_clip_shapes,
    random_weights,
    write_clip,
    write_clip_base,
)

HEAD = random_weights(linear_head_shapes(EMBEDDING))


class RunsCode:
    """What a malicious checkpoint holds: reading it calls what `__reduce__` says."""

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return print, ("this code ran while a checkpoint was read",)


def test_a_converted_predictor_is_served(tmp_path: Path) -> None:
    torch.save(HEAD, tmp_path / "sac+logos+ava1-l14-linearMSE.pth")
    convert(tmp_path / "sac+logos+ava1-l14-linearMSE.pth", tmp_path / "aesthetic")
    base = write_clip(tmp_path / "clip", random_weights(clip_shapes()))
    aesthetic.load(RewardChoice(kind="aesthetic", model=str(tmp_path / "aesthetic"), base=base))


def test_hpsv2_has_its_tensors_under_state_dict(tmp_path: Path) -> None:
    weights = random_weights(open_clip_shapes())
    torch.save({"epoch": 1, "state_dict": weights}, tmp_path / "HPS_v2.1_compressed.pt")
    convert(tmp_path / "HPS_v2.1_compressed.pt", tmp_path / "hpsv2")
    assert load_file(tmp_path / "hpsv2" / "model.safetensors").keys() == weights.keys()
    base = str(write_clip_base(tmp_path / "clip", "gelu"))
    hpsv2.load(RewardChoice(kind="hpsv2", model=str(tmp_path / "hpsv2"), base=base))


def test_tensors_that_share_memory_are_written_apart(tmp_path: Path) -> None:
    whole = torch.arange(6.0)
    torch.save({"whole": whole, "part": whole[2:]}, tmp_path / "tied.pt")
    convert(tmp_path / "tied.pt", tmp_path / "out")
    assert load_file(tmp_path / "out" / "model.safetensors")["part"].tolist() == [2, 3, 4, 5]


def test_a_pickle_that_would_run_code_is_not_read(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    torch.save({"state_dict": HEAD, "note": RunsCode()}, tmp_path / "evil.pt")
    with pytest.raises(BadRequest, match=r"evil\.pt holds more than tensors and is not read"):
        convert(tmp_path / "evil.pt", tmp_path / "out")
    assert capsys.readouterr().out == ""
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        (b"", "cannot be read as a PyTorch checkpoint"),
        (b"no checkpoint at all", "is not read|cannot be read"),
        (None, "cannot be read as a PyTorch checkpoint"),
    ],
    ids=["empty", "text", "absent"],
)
def test_what_is_no_checkpoint_is_named(tmp_path: Path, content: bytes | None, complaint: str) -> None:
    source = tmp_path / "model.pt"
    if content is not None:
        source.write_bytes(content)
    with pytest.raises(BadRequest, match=complaint):
        convert(source, tmp_path / "out")


def test_a_checkpoint_of_no_tensors_is_named(tmp_path: Path) -> None:
    torch.save({"epoch": 3}, tmp_path / "model.pt")
    with pytest.raises(BadRequest, match="holds no tensors by name, nor under 'state_dict'"):
        convert(tmp_path / "model.pt", tmp_path / "out")


def pickled(folder: Path, weights: Weights, name: str) -> str:
    folder.mkdir()
    torch.save(weights, folder / name)
    return str(folder)


def test_a_pickle_where_safetensors_are_expected_is_named_with_the_way_out(tmp_path: Path) -> None:
    base = write_clip(tmp_path / "clip", random_weights(clip_shapes()))
    model = pickled(tmp_path / "aesthetic", HEAD, "linearMSE.pth")
    with pytest.raises(ModelFailure) as refused:
        aesthetic.load(RewardChoice(kind="aesthetic", model=model, base=base))
    assert "linearMSE.pth is a pickle, which may run code" in refused.value.detail
    assert "`python -m services.reward.convert FILE FOLDER`" in refused.value.detail


def test_a_clip_that_is_a_pickle_is_refused_as_well(tmp_path: Path) -> None:
    model = write_clip(tmp_path, random_weights(clip_shapes()))
    shutil.move(tmp_path / "model.safetensors", tmp_path / "pytorch_model.bin")
    with pytest.raises(ModelFailure, match=r"pytorch_model\.bin is a pickle"):
        pickscore.load(RewardChoice(kind="pickscore", model=model))


def test_a_pickle_under_the_name_of_safetensors_is_refused(tmp_path: Path) -> None:
    base = write_clip(tmp_path / "clip", random_weights(clip_shapes()))
    model = pickled(tmp_path / "aesthetic", HEAD, "model.safetensors")
    with pytest.raises(ModelFailure, match="weights are not a safetensors file"):
        aesthetic.load(RewardChoice(kind="aesthetic", model=model, base=base))


def test_a_folder_without_weights_is_named(tmp_path: Path) -> None:
    base = write_clip(tmp_path / "clip", random_weights(clip_shapes()))
    (tmp_path / "empty").mkdir()
    with pytest.raises(ModelFailure, match="empty cannot be read"):
        aesthetic.load(RewardChoice(kind="aesthetic", model=str(tmp_path / "empty"), base=base))
