"""Images to start from: folders, Parquet, and pairs of Pick-a-Pic of which one side or both are taken."""

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from retouche.errors import BadPrompts
from retouche.intake.images import Existing, Side, Wanted, images_of
from retouche.intake.rows import Skipped


def found(source: Path, wanted: Wanted | None = None, skipped: Skipped | None = None) -> list[Existing]:
    return list(images_of(source, wanted or Wanted(), skipped or Skipped()))


def pick_a_pic(file: Path, labels: list[tuple[float | None, float | None]], **more: list[Any]) -> Path:
    columns = {
        "jpg_0": [b"zero" for _ in labels],
        "jpg_1": [b"one" for _ in labels],
        "label_0": [label for label, _ in labels],
        "label_1": [label for _, label in labels],
        "caption": [f"prompt {index}" for index in range(len(labels))],
    }
    pq.write_table(pa.table(columns | more), file)
    return file


@pytest.mark.parametrize(
    ("side", "expected"),
    [
        ("rejected", [b"one", b"zero"]),
        ("chosen", [b"zero", b"one"]),
        ("both", [b"zero", b"one", b"zero", b"one", b"zero", b"one"]),
    ],
)
def test_a_side_of_pick_a_pic_pairs(tmp_path: Path, side: Side, expected: list[bytes]) -> None:
    file = pick_a_pic(tmp_path / "a.parquet", [(1.0, 0.0), (0.5, 0.5), (0.0, 1.0)])
    skipped = Skipped()
    assert [existing.encoded for existing in found(file, Wanted(side=side), skipped)] == expected
    ties = [f"{file} row 2: is a tie: neither image is the {side} one"]
    assert skipped.problems == ([] if side == "both" else ties)


def test_an_image_says_where_it_comes_from(tmp_path: Path) -> None:
    file = pick_a_pic(tmp_path / "a.parquet", [(1.0, 0.0)], model_0=["sdxl"], model_1=["dreamlike"])
    assert found(file) == [Existing("prompt 0", f"{file} row 1, jpg_1, rejected, by dreamlike", b"one")]


def test_parquet_with_bytes_or_as_the_datasets_library_stores_images(tmp_path: Path) -> None:
    plain, structured = tmp_path / "plain.parquet", tmp_path / "structured.parquet"
    pq.write_table(pa.table({"image": [b"x", None], "text": ["one", "two"]}), plain)
    rows = [{"bytes": b"x", "path": "x.png"}, {"bytes": None, "path": "y.png"}]
    pq.write_table(pa.table({"photo": rows, "prompt": ["one", "two"]}), structured)
    assert found(plain) == [
        Existing("one", f"{plain} row 1, column image", b"x"),
        Existing("two", f"{plain} row 2, column image", None),
    ]
    assert [existing.encoded for existing in found(structured, Wanted(image_column="photo"))] == [b"x", None]


def test_row_7031_is_called_so(tmp_path: Path) -> None:
    file, images = tmp_path / "a.parquet", [b"x" if row != 7_030 else b"" for row in range(9_000)]
    pq.write_table(pa.table({"image": images, "prompt": ["y"] * 9_000}), file, row_group_size=1_000)
    (empty,) = (existing for existing in found(file) if existing.encoded is None)
    assert empty.origin == f"{file} row 7,031, column image"


@pytest.mark.parametrize("metadata", ["metadata.jsonl", "metadata.csv", "a .txt beside each"])
def test_a_folder_of_images_with_their_prompts(tmp_path: Path, metadata: str) -> None:
    prompts = {"a.png": "a red circle", "b.jpg": "a blue square"}
    for name, prompt in prompts.items():
        (tmp_path / name).write_bytes(name.encode())
        if metadata.startswith("a "):
            (tmp_path / name).with_suffix(".txt").write_text(prompt + "\n")
    if metadata.endswith(".jsonl"):
        lines = [json.dumps({"file_name": name, "text": prompt}) for name, prompt in prompts.items()]
        (tmp_path / metadata).write_text("\n".join(lines))
    if metadata.endswith(".csv"):
        rows = [f"{name},{prompt}" for name, prompt in prompts.items()]
        (tmp_path / metadata).write_text("\n".join(["file_name,prompt", *rows]))
    assert found(tmp_path) == [
        Existing(prompt, str(tmp_path / name), name.encode()) for name, prompt in prompts.items()
    ]


def test_what_has_no_prompt_or_no_image_is_left_out_by_name(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(b"x")
    (tmp_path / "b.png").write_bytes(b"x")
    (tmp_path / "b.txt").write_text("a blue square")
    skipped = Skipped()
    assert [existing.prompt for existing in found(tmp_path, None, skipped)] == ["a blue square"]
    assert "a.png: there is no metadata.jsonl" in skipped.problems[0]
    rows = ['{"file_name": "../secret.png", "prompt": "x"}', '{"file_name": "a.png", "prompt": "y"}']
    (tmp_path / "metadata.jsonl").write_text("\n".join(rows))
    skipped = Skipped()
    assert [existing.prompt for existing in found(tmp_path, None, skipped)] == ["y"]
    assert "line 1: file_name '../secret.png' is no image of the folder" in skipped.problems[0]


def test_a_data_set_without_the_columns_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "a.parquet"
    pq.write_table(pa.table({"picture": [b"x"], "prompt": ["y"]}), file)
    with pytest.raises(BadPrompts, match=r"none of the columns image.*; it has picture.*--image-column"):
        found(file)
    with pytest.raises(BadPrompts, match="no column 'photo'"):
        found(file, Wanted(image_column="photo"))
    with pytest.raises(BadPrompts, match="holds no image"):
        found(pick_a_pic(tmp_path / "ties.parquet", [(0.5, 0.5)]))
