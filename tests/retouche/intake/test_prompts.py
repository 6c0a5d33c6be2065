"""Prompts out of the data sets that people have; what cannot be used is told by file, row and column."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from retouche.errors import BadPrompts
from retouche.intake.prompts import prompts_of
from retouche.intake.rows import Skipped

PROMPTS = ["a red circle", "two “blue” squares"]


def parquet(**columns: Sequence[object]) -> Callable[[Path], object]:
    return lambda file: pq.write_table(pa.table(columns), file)


def text(content: str) -> Callable[[Path], object]:
    return lambda file: file.write_text(content)


@pytest.mark.parametrize(
    ("name", "write"),
    [
        ("prompts.txt", text("\ufeffa red circle\r\n\r\n  two “blue” squares  \n")),
        ("prompts.csv", text('id,caption\n1,a red circle\n2,"two “blue” squares"\n')),
        ("PartiPrompts.tsv", text("Prompt\tCategory\na red circle\tArts\ntwo “blue” squares\tArts\n")),
        ("prompts.jsonl", text('"a red circle"\n\n{"text": "two “blue” squares", "id": 7}\n')),
        ("benchmark.json", text(json.dumps(PROMPTS))),
        ("prompts.json", text(json.dumps([{"prompt": prompt} for prompt in PROMPTS]))),
        ("parti.parquet", parquet(Prompt=PROMPTS, Category=["Arts", "Arts"])),
        ("pickapic.parquet", parquet(jpg_0=[b"", b""], caption=PROMPTS)),
    ],
)
def test_the_prompt_column_is_recognised(tmp_path: Path, name: str, write: Callable[[Path], object]) -> None:
    write(tmp_path / name)
    skipped = Skipped()
    assert list(prompts_of(tmp_path / name, None, skipped)) == PROMPTS
    assert skipped == Skipped()


@pytest.mark.parametrize("name", ["a.csv", "a.parquet", "a.jsonl"])
def test_a_column_can_be_named(tmp_path: Path, name: str) -> None:
    write = {
        "a.csv": text("prompt,title\nno,a red circle\n"),
        "a.parquet": parquet(prompt=["no"], title=["a red circle"]),
        "a.jsonl": text('{"prompt": "no", "title": "a red circle"}\n'),
    }[name]
    write(tmp_path / name)
    assert list(prompts_of(tmp_path / name, "title", Skipped())) == ["a red circle"]


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ({"README.md": "# x", "b.jsonl": '"b"', "a.jsonl": '"a"', "note.txt": "no"}, ["a", "b"]),
        ({"data/train-0.jsonl": '"t"', "data/test-0.jsonl": '"no"', "data/validation.jsonl": '"no"'}, ["t"]),
        ({"benchmark/anime.json": '["a"]', "benchmark/photo.json": '["p"]', "train.json": "[]"}, ["a", "p"]),
    ],
    ids=["one kind", "the training split", "HPDv2's benchmark"],
)
def test_a_folder_is_read_as_a_data_set(tmp_path: Path, files: dict[str, str], expected: list[str]) -> None:
    for name, content in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(content)
    assert list(prompts_of(tmp_path, None, Skipped())) == expected


@pytest.mark.parametrize(
    ("name", "rows", "problem"),
    [
        ("a.csv", b"prompt,id\nfine,1\nragged\nfine,2\n", "line 3: has 1 cells where the header has 2"),
        ("a.csv", b"prompt,id\nfine,1\na, comma,7\nfine,2\n", "line 3: has 3 cells where the header has 2"),
        ("a.csv", b'prompt\nfine\nfine\n"never closed\n', "line 4: is not CSV: unexpected end of data"),
        ("a.csv", b"prompt,id\nfine,1\ncaf\xe9,2\nfine,3\n", "line 3: column 'prompt' is not UTF-8"),
        ("a.txt", b"fine\ncaf\xe9\nfine\n", "line 2: column 'prompt' is not UTF-8"),
        (
            "a.txt",
            b"fine\n" + b"x" * 2_001 + b"\nfine\n",
            "line 2: column 'prompt': String should have at most",
        ),
        ("a.txt", b"fine\n" + b"x" * 3_000_000 + b"\nfine\n", "line 2: column 'prompt': String should have"),
        ("a.jsonl", b'"fine"\n{"prompt"\n"fine"\n', "line 2: is not JSON"),
        ("a.jsonl", b'"fine"\n' + b"9" * 5_000 + b'\n"fine"\n', "line 2: is not JSON"),
        (
            "a.jsonl",
            b'"fine"\n{"prompt": 3}\n"fine"\n',
            "line 2: column 'prompt' holds '3', which is no text",
        ),
        (
            "a.jsonl",
            b'"fine"\n{"title": "x"}\n"fine"\n',
            "line 2: has no prompt or Prompt or caption or text",
        ),
        (
            "a.jsonl",
            b'"fine"\n{"\\ud800": 1}\n"fine"\n',
            "line 2: has no prompt or Prompt or caption or text, but",
        ),
        ("a.jsonl", b'"fine"\n"\\ud800"\n"fine"\n', "line 2: column 'prompt' is not UTF-8"),
        ("a.jsonl", b'"fine"\n[1]\n"fine"\n', "line 2: a string or an object is wanted"),
        ("a.json", b'["fine", null, "fine"]', "row 2: a string or an object is wanted"),
    ],
)
def test_a_row_that_cannot_be_used_is_named_and_the_rest_goes_on(
    tmp_path: Path, name: str, rows: bytes, problem: str
) -> None:
    file, skipped = tmp_path / name, Skipped()
    file.write_bytes(rows)
    assert list(prompts_of(file, None, skipped)) == ["fine", "fine"]
    assert skipped.count == 1
    assert skipped.problems[0].startswith(f"{file} {problem}")


def test_a_parquet_row_and_a_damaged_row_group(tmp_path: Path) -> None:
    file, skipped = tmp_path / "a.parquet", Skipped()
    rows = [None if row == 7_030 else f"prompt number {row}" for row in range(9_000)]
    pq.write_table(pa.table({"prompt": rows}), file, row_group_size=1_000, compression="none")
    second = pq.read_metadata(file).row_group(1).column(0)
    content = bytearray(file.read_bytes())
    begin = second.dictionary_page_offset or second.data_page_offset
    content[begin : begin + 40] = b"\xff" * 40
    file.write_bytes(content)
    assert len(list(prompts_of(file, None, skipped))) == 7_999
    assert skipped.problems[0].startswith(f"{file} rows 1,001 to 2,000: cannot be read")
    assert skipped.problems[1] == f"{file} row 7,031: column 'prompt' holds 'None', which is no text"


def test_a_parquet_row_that_is_not_utf_8(tmp_path: Path) -> None:
    file, skipped = tmp_path / "a.parquet", Skipped()
    prompts = pa.array([b"fine", b"caf\xe9", b"fine"]).view(pa.string())
    pq.write_table(pa.table({"prompt": prompts}), file)
    assert list(prompts_of(file, None, skipped)) == ["fine", "fine"]
    assert skipped.problems[0].startswith(f"{file} row 2: is not UTF-8")


def test_only_the_first_of_many_problems_are_kept(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("prompt,id\nfine,1\n" + "ragged\n" * 10_000)
    skipped = Skipped()
    list(prompts_of(tmp_path / "a.csv", None, skipped))
    assert (skipped.count, len(skipped.problems)) == (10_000, 20)


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("a.txt", b"", "a.txt is empty"),
        ("a.txt", b"\n \n", "a.txt holds no prompt; it has no rows"),
        ("a.txt", "ein Kreis\n".encode("utf-16"), "a.txt is UTF-16; convert it: iconv"),
        (
            "a.csv",
            b"id,title\n1,x\n",
            "a.csv has none of the columns prompt.*; it has id, title: name one with",
        ),
        ("a.csv", b"prompt\n", "holds no prompt"),
        ("a.csv", b"prompt,caf\xe9\nx,1\n", "line 1, its header, is not UTF-8; convert it"),
        ("a.csv", b"\nx\n", "line 1 is no header"),
        ("a.jsonl", b'{"title": 1}\n', "holds no prompt; .*line 1: has no prompt"),
        ("a.json", b"{", "is not JSON"),
        ("a.json", b"9" * 5_000, "is not JSON"),
        ("a.json", b'{"prompt": "x"}', "is not a JSON list"),
        ("a.parquet", b"PAR1 and no more", "a.parquet cannot be read as Parquet"),
    ],
)
def test_a_file_of_which_nothing_can_be_used_is_refused(
    tmp_path: Path, name: str, content: bytes, says: str
) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(BadPrompts, match=says):
        list(prompts_of(tmp_path / name, None, Skipped()))


def test_a_named_column_that_is_not_there(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("prompt,id\nx,1\n")
    with pytest.raises(BadPrompts, match=r"has no column 'title'; it has prompt, id: name one with --column"):
        list(prompts_of(tmp_path / "a.csv", "title", Skipped()))


@pytest.mark.parametrize("source", ["nowhere.txt", "empty"])
def test_a_source_that_is_none(tmp_path: Path, source: str) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(BadPrompts, match=source):
        list(prompts_of(tmp_path / source, None, Skipped()))
