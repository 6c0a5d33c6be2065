"""Data sets of the Hub, fetched by the real huggingface_hub from a Hub on loopback, and submitted."""

import io
import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from retouche.contract.jobs import StartingImage
from retouche.images import encode
from retouche.store import ObjectStore, digest, run
from tests.hub import Hub, create_app, environment
from tests.live import live

ROOT = Path(__file__).parents[3]
PICTURE = encode(Image.new("RGB", (16, 16), (255, 0, 0)))


def parquet(**columns: Sequence[object]) -> bytes:
    file = io.BytesIO()
    pq.write_table(pa.table(columns), file)
    return file.getvalue()


@pytest.fixture(scope="module")
def hub_url() -> Iterator[str]:
    """A Hub with the public prompt sets in their layouts, two prompts each."""
    files = {
        "nateraw/parti-prompts": {"PartiPrompts.tsv": b"Prompt\tCategory\na fox\tArts\nan owl\tArts\n"},
        "zhwang/HPDv2": {
            "benchmark/anime.json": b'["a fox"]',
            "benchmark/photo.json": b'["an owl"]',
            "train.json": b'[{"prompt": "no"}]',
            "README.md": b"# HPDv2",
        },
        "yuvalkirstain/pickapic_v2_no_images": {
            "data/train-00000-of-00001.parquet": parquet(caption=["a fox", "an owl"], model_0=["x", "y"]),
            "data/test-00000-of-00001.parquet": parquet(caption=["held out"], model_0=["x"]),
        },
        "us/pairs": {
            "data/train-00000-of-00001.parquet": parquet(
                jpg_0=[PICTURE], jpg_1=[PICTURE], label_0=[1.0], label_1=[0.0], caption=["a fox"]
            )
        },
        "us/nothing": {"README.md": b"# nothing"},
    }
    with live(create_app(Hub(files))) as url:
        yield url


def curate(
    url: str, hub: Mapping[str, str], source: str, cache: Path, option: str = "--prompts"
) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, "-m", "retouche.cli.main", "curate", option, source, "--no-wait", "--json"],
        env=os.environ | hub | {"RETOUCHE_URL": url, "PYTHONPATH": str(ROOT), "HF_HOME": str(cache)},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("nateraw/parti-prompts", ["a fox", "an owl"]),
        ("zhwang/HPDv2", ["a fox", "an owl"]),
        ("zhwang/HPDv2/benchmark/photo.json", ["an owl"]),
        ("yuvalkirstain/pickapic_v2_no_images", ["a fox", "an owl"]),
        ("yuvalkirstain/pickapic_v2_no_images@main/data/test-*", ["held out"]),
    ],
)
def test_a_public_prompt_set_is_recognised(
    gateway_url: str, store: ObjectStore, hub_url: str, tmp_path: Path, source: str, expected: list[str]
) -> None:
    done = curate(gateway_url, environment(hub_url), f"hf://datasets/{source}", tmp_path)
    assert done.returncode == 0, done.stderr
    (path,) = run(_paths(store))
    assert [json.loads(line) for line in run(store.get(path)).splitlines()] == expected


def test_pairs_of_the_hub_are_started_from(
    gateway_url: str, store: ObjectStore, hub_url: str, tmp_path: Path
) -> None:
    source = "hf://datasets/us/pairs"
    done = curate(gateway_url, environment(hub_url), source, tmp_path, "--images")
    assert done.returncode == 0, done.stderr
    (path,) = run(_paths(store))
    start = StartingImage.model_validate_json(run(store.get(path)))
    assert start.origin == f"{source}/data/train-00000-of-00001.parquet row 1, jpg_1, rejected"
    assert start.image == digest(PICTURE)


async def _paths(store: ObjectStore) -> list[str]:
    return [path async for path in store.paths("prompts") if path.endswith(".ndjson")]


@pytest.mark.parametrize(
    ("source", "says"),
    [
        ("hf://datasets/us/none", "not-found: the Hub has no hf://datasets/us/none"),
        ("hf://datasets/us/nothing", "bad-prompts: hf://datasets/us/nothing holds no file"),
        ("hf://datasets/us", "bad-request: hf://datasets/us is not hf://datasets/OWNER/NAME"),
    ],
)
def test_a_data_set_that_is_none(
    gateway_url: str, hub_url: str, tmp_path: Path, source: str, says: str
) -> None:
    done = curate(gateway_url, environment(hub_url), source, tmp_path)
    assert done.returncode == 1
    assert done.stderr.startswith(says), done.stderr
