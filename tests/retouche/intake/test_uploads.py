"""Data sets through the client into the gateway: what a job then starts from."""

import io
import json
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image
from typer.testing import CliRunner

from retouche.cli.main import app
from retouche.client import Retouche
from retouche.contract.jobs import PromptSetInfo, StartingImage
from retouche.images import encode
from retouche.intake.images import Wanted
from retouche.intake.rows import Skipped
from retouche.store import ObjectStore, prompt_set_path, run

ROWS = 40  # so many that they go up in several turns
CORRUPT = 31


@pytest.fixture
def client(gateway_url: str) -> Iterator[Retouche]:
    with Retouche(gateway_url) as client:
        yield client


def picture(red: int) -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (16, 16), (red, 0, 0)).save(file, "PNG")
    return file.getvalue()


def lines(store: ObjectStore, uploaded: PromptSetInfo) -> list[str]:
    stored = run(store.get(prompt_set_path(uploaded.prompt_set))).splitlines()
    assert len(stored) == uploaded.prompts
    return [line.decode() for line in stored]


def test_prompts_of_any_file_are_the_same_prompt_set(client: Retouche, tmp_path: Path) -> None:
    prompts = [f"{number} “circles” 🔴" + "é" * 1_900 for number in range(2_500)]
    (tmp_path / "a.txt").write_text("\n".join(prompts))
    pq.write_table(pa.table({"caption": prompts}), tmp_path / "a.parquet")
    text, table = (client.upload_prompts(tmp_path / name) for name in ("a.txt", "a.parquet"))
    assert text == table
    assert text.prompts == 2_500


def test_a_corrupt_image_is_named_and_the_rest_goes_on(
    client: Retouche, store: ObjectStore, tmp_path: Path
) -> None:
    pictures = [picture(number % 8) for number in range(ROWS)]
    pictures[CORRUPT - 1] = pictures[0][:40]
    prompts = [f"circle {number}" for number in range(1, ROWS + 1)]
    file = tmp_path / "images.parquet"
    pq.write_table(pa.table({"image": pictures, "prompt": prompts}), file, row_group_size=20)
    skipped = Skipped()
    images = [
        StartingImage.model_validate_json(line)
        for line in lines(store, client.upload_images(file, skipped=skipped))
    ]
    assert [image.prompt for image in images] == prompts
    (corrupt,) = (image for image in images if image.image is None)
    assert corrupt.origin == f"{file} row 31, column image"
    assert corrupt.problem is not None
    assert corrupt.problem.startswith("not a PNG, JPEG or WebP image")
    assert skipped.count == 0, "the job counts it"
    first = images[0].image
    assert first is not None
    assert Image.open(io.BytesIO(run(store.get_image(first)))).tobytes() == b"\0" * 768


def test_pairs_of_pick_a_pic_become_a_job(gateway_url: str, tmp_path: Path) -> None:
    columns = {
        "jpg_0": [encode(Image.new("RGB", (16, 16), (1, 0, 0)))] * 2,
        "jpg_1": [encode(Image.new("RGB", (16, 16), (2, 0, 0)))] * 2,
        "label_0": [1.0, 0.5],
        "label_1": [0.0, 0.5],
        "caption": ["a red circle", "a tie"],
    }
    (tmp_path / "data").mkdir()
    pq.write_table(pa.table(columns), tmp_path / "data" / "train-00000-of-00001.parquet")
    arguments = ["curate", "--images", str(tmp_path), "--edit", "rejected", "--no-wait", "--json"]
    done = CliRunner().invoke(app, arguments, env={"RETOUCHE_URL": gateway_url})
    assert done.exit_code == 0, done.stderr
    job = json.loads(done.stdout)
    assert (job["prompts"], job["state"]) == (1, "queued")
    assert "left out 1 rows" in done.stderr
    assert "train-00000-of-00001.parquet row 2: is a tie" in done.stderr


def test_rows_that_are_left_out_are_told_on_the_command_line(gateway_url: str, tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("title,id\na red circle,1\nragged\n")
    arguments = ["curate", "--prompts", str(tmp_path / "a.csv"), "--column", "title", "--no-wait", "--json"]
    done = CliRunner().invoke(app, arguments, env={"RETOUCHE_URL": gateway_url})
    assert json.loads(done.stdout)["prompts"] == 1
    assert "line 3: has 1 cells where the header has 2" in done.stderr


def test_an_origin_is_told_whatever_the_file_says(
    client: Retouche, store: ObjectStore, tmp_path: Path
) -> None:
    image = tmp_path / "caf\udce9.png"  # a name in Latin-1
    image.write_bytes(picture(0))
    image.with_suffix(".txt").write_text("a red circle")
    (named,) = lines(store, client.upload_images(tmp_path))
    assert json.loads(named)["origin"].endswith("/caf?.png")
    columns = {"jpg_0": [picture(0)], "jpg_1": [b""], "label_0": [0.0], "label_1": [1.0], "caption": ["x"]}
    table = tmp_path / "pairs.parquet"
    pq.write_table(pa.table({**columns, "model_0": ["m" * 5_000], "model_1": ["n"]}), table)
    (named,) = lines(store, client.upload_images(table))
    assert len(json.loads(named)["origin"]) == 1_000


def test_starting_images_differ_by_side(client: Retouche, store: ObjectStore, tmp_path: Path) -> None:
    columns = {"jpg_0": [picture(0)], "jpg_1": [picture(1)], "label_0": [0.0], "label_1": [1.0]}
    file = tmp_path / "pairs.parquet"
    pq.write_table(pa.table({**columns, "caption": ["a red circle"]}), file)
    both = lines(store, client.upload_images(file, Wanted(side="both")))
    assert [json.loads(line)["origin"].rsplit(", ", 1)[1] for line in both] == ["rejected", "chosen"]
    assert lines(store, client.upload_images(file, Wanted(side="chosen"))) == both[1:]
