"""Prompt sets come in as text, NDJSON or CSV, and are the same set whichever way they came."""

import json
import re
from collections.abc import Iterator
from pathlib import Path

import httpx2
import pytest

from retouche.contract.jobs import STARTING_IMAGES
from tests.gateway.test_images import RED, encoded

TEXT, NDJSON, CSV = "text/plain", "application/x-ndjson", "text/csv"


def upload(gateway: httpx2.Client, kind: str, content: bytes | Iterator[bytes]) -> httpx2.Response:
    return gateway.post("/v1/prompts", content=content, headers={"content-type": kind})


@pytest.mark.parametrize(
    ("kind", "content"),
    [
        (TEXT, "\ufeffa red circle\r\n\r\n  two “blue” squares  \n"),
        (NDJSON, '"a red circle"\n\n{"prompt": "two “blue” squares", "id": 7}\n'),
        (CSV, 'id,Prompt\n1,a red circle\n2,"two “blue” squares"\n'),
        (CSV + "; charset=utf-8", 'caption\r\na red circle\r\n"two “blue” squares"'),
    ],
    ids=["text", "ndjson", "csv", "csv-windows"],
)
def test_every_format_gives_the_same_prompt_set(
    gateway: httpx2.Client, folder: Path, kind: str, content: str
) -> None:
    answer = upload(gateway, kind, content.encode())
    assert answer.status_code == 201
    assert answer.json()["prompts"] == 2
    stored = folder / "prompts" / (answer.json()["prompt_set"].removeprefix("sha256:") + ".ndjson")
    prompts = [json.loads(line) for line in stored.read_text().splitlines()]
    assert prompts == ["a red circle", "two “blue” squares"]


def test_a_quoted_csv_field_may_span_lines(gateway: httpx2.Client, folder: Path) -> None:
    answer = upload(gateway, CSV, b'prompt,id\n"a ""red""\ncircle",1\nx,2\n')
    assert answer.json()["prompts"] == 2
    (stored,) = (folder / "prompts").glob("*.ndjson")
    assert json.loads(stored.read_text().splitlines()[0]) == 'a "red"\ncircle'


def test_a_large_set_is_read_as_it_arrives(gateway: httpx2.Client) -> None:
    parts = ("".join(f"prompt number {part * 1000 + row}\n" for row in range(1000)) for part in range(50))
    answer = upload(gateway, TEXT, (part.encode() for part in parts))
    assert answer.json()["prompts"] == 50_000


def test_starting_images_are_a_prompt_set_too(gateway: httpx2.Client, folder: Path) -> None:
    image = gateway.post("/v1/images", content=encoded(RED, "PNG")).json()["image"]
    there = {"prompt": "a red circle", "image": image, "origin": "a.parquet row 1"}
    lost = {"prompt": "a blue square", "origin": "a.parquet row 2", "problem": "is cut off"}
    answer = upload(gateway, STARTING_IMAGES, "\n".join(map(json.dumps, (there, lost))).encode())
    assert answer.json()["prompts"] == 2
    (stored,) = (folder / "prompts").glob("*.ndjson")
    assert [json.loads(line) for line in stored.read_text().splitlines()] == [there, lost]
    job = gateway.post("/v1/jobs", json={"prompt_set": answer.json()["prompt_set"]})
    assert (job.status_code, job.json()["prompts"]) == (201, 2)


@pytest.mark.parametrize(
    ("kind", "content", "says"),
    [
        (TEXT, b"", "no prompt"),
        (TEXT, b"\n  \n", "no prompt"),
        (TEXT, b"fine\n" + b"x" * 2_001, "line 2: .* 2000 characters"),
        (TEXT, b"fine\n" + b"x" * 100_000, "line 2 has more than"),
        (TEXT, b"fine\n\xff\xfe\n", "line 2 is not UTF-8"),
        (NDJSON, b'"fine"\n{"prompt": 3}\n', "line 2: a string"),
        (NDJSON, b'"fine"\n{"prompt"\n', "line 2 is not JSON"),
        (NDJSON, b"[" * 15_000, "line 1 is not JSON"),
        (NDJSON, b"9" * 15_000, "line 1 is not JSON"),
        (NDJSON, b'"\\ud800"\n', "line 1"),
        (CSV, b"id,title\n1,x\n", "none of the columns"),
        (CSV, b"id,prompt\n1\n", "line 2: the row has 1 cells where the header has 2"),
        (CSV, b"prompt\na red circle, on a gray background\n", "line 2: the row has 2 cells .* in quotes"),
        (CSV, b'prompt\n"never closed\nx\n', "line 2: a quoted field"),
        (CSV, b'prompt\n"never closed\n' + b"x\n" * 20_000, "line 2: a row with more"),
        (CSV, b"prompt\na\rb\n", "line 2 is not CSV"),
        (STARTING_IMAGES, b'{"prompt": "x", "origin": "y"}', "line 1: .*either `image` or `problem`"),
        (STARTING_IMAGES, b'{"prompt": "x", "origin": "y", "image": "z"}', "line 1: image: String should"),
        ("application/json", b'["x"]', "is not known; send one of"),
    ],
)
def test_a_file_that_cannot_be_read_is_refused_with_its_line(
    gateway: httpx2.Client, folder: Path, kind: str, content: bytes, says: str
) -> None:
    answer = upload(gateway, kind, content)
    assert (answer.status_code, answer.json()["type"]) == (400, "urn:retouche:bad-prompts")
    assert re.search(says, answer.json()["detail"]), answer.json()["detail"]
    assert not (folder / "prompts").exists()
