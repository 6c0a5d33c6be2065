"""A model folder is known by its name and by whatever in it decides an answer."""

from pathlib import Path

import pytest

from retouche.identity import identify


def folder_with(folder: Path, **contents: str) -> str:
    """A folder of files, `__` in a name for a point."""
    folder.mkdir(parents=True)
    for name, content in contents.items():
        (folder / name.replace("__", ".")).write_text(content)
    return str(folder)


@pytest.mark.parametrize(
    "file",
    [
        "model__safetensors",
        "config__json",
        "chat_template__jinja",
        "merges__txt",
        "vocab__txt",
        "tokenizer__model",
    ],
)
def test_another_revision_where_weights_configuration_or_tokenizer_differ(tmp_path: Path, file: str) -> None:
    one = identify(folder_with(tmp_path / "one" / "critic", **{file: "this"}))
    other = identify(folder_with(tmp_path / "other" / "critic", **{file: "that"}))
    assert one.id == other.id == "critic"
    assert one.revision != other.revision


def test_the_same_wherever_it_lies_and_whatever_is_said_about_it(tmp_path: Path) -> None:
    one = identify(folder_with(tmp_path / "one" / "critic", config__json="{}", README__md="this"))
    assert identify(folder_with(tmp_path / "other" / "critic", config__json="{}", README__md="that")) == one


def test_a_model_of_the_hub_is_known_by_its_revision() -> None:
    assert str(identify("some/model", "v2")) == "some/model@v2"
    assert str(identify("some/model")) == "some/model@main"
