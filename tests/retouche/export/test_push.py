"""`retouche pairs export --push-to-hub` against a Hub on loopback, by the real huggingface_hub."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from tests.hub import Hub, create_app, environment
from tests.live import live

ROOT = Path(__file__).parents[3]


@pytest.fixture
def hub() -> Hub:
    """Has no repository yet."""
    return Hub()


@pytest.fixture
def hub_url(hub: Hub) -> Iterator[str]:
    with live(create_app(hub)) as url:
        yield url


def export(url: str, hub: Mapping[str, str], *arguments: str) -> "subprocess.CompletedProcess[str]":
    """The command in a process of its own, as huggingface_hub reads its environment when imported."""
    return subprocess.run(
        [sys.executable, "-m", "retouche.cli.main", "pairs", "export", *arguments],
        env=os.environ | hub | {"RETOUCHE_URL": url, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )


def test_what_is_pushed_is_what_was_written(
    url: str, job_id: str, hub: Hub, hub_url: str, tmp_path: Path
) -> None:
    output = tmp_path / "pairs"
    wanted = ("--output", str(output), "--push-to-hub", "us/pairs", "--private", "--json")
    done = export(url, environment(hub_url), job_id, *wanted)
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout)
    assert (said["pairs"], said["hub"]) == ({"train": 80}, f"{hub_url}/datasets/us/pairs")
    written = {str(file.relative_to(output)): file.read_bytes() for file in output.rglob("*.*")}
    assert hub.files == {"us/pairs": written}
    assert sorted(written) == ["README.md", "data/train-00000-of-00001.parquet"]
    assert hub.private == {"us/pairs"}


def test_what_is_pushed_again_takes_the_place_of_what_was_pushed_before(
    url: str, job_id: str, hub: Hub, hub_url: str, tmp_path: Path
) -> None:
    """A data set is read from all its files: those of an export of other shards would be rows of this one."""
    earlier = {
        "data/train-00001-of-00002.parquet": b"of a job",
        "data/validation-00000-of-00001.parquet": b"",
    }
    hub.files["us/pairs"] = {**earlier, "LICENSE": b"somebody's own"}
    for folder in ("pairs", "again"):
        wanted = ("--output", str(tmp_path / folder), "--push-to-hub", "us/pairs")
        done = export(url, environment(hub_url), job_id, *wanted)
        assert done.returncode == 0, done.stderr
        assert sorted(hub.files["us/pairs"]) == ["LICENSE", "README.md", "data/train-00000-of-00001.parquet"]


@pytest.mark.parametrize(
    ("token", "repository", "status", "says"),
    [
        ("hf_another", "us/pairs", None, "unauthorized: the Hub refuses us/pairs"),
        ("hf_mayWrite", "us/pairs/more", None, "bad-request: us/pairs/more"),
        ("hf_mayWrite", "us/pairs", 403, "unauthorized: the Hub refuses us/pairs"),
        ("hf_mayWrite", "us/pairs", 500, "service-unreachable: the Hub failed for us/pairs"),
    ],
)
def test_a_hub_that_refuses_is_said_and_the_folder_stays(
    url: str,
    job_id: str,
    hub: Hub,
    hub_url: str,
    tmp_path: Path,
    token: str,
    repository: str,
    status: int | None,
    says: str,
) -> None:
    hub.failures += [status] * 20 if status else []
    output = tmp_path / "pairs"
    wanted = ("--output", str(output), "--push-to-hub", repository)
    done = export(url, environment(hub_url, token), job_id, *wanted)
    assert done.returncode == 1
    assert says in done.stderr
    assert f'hf upload {repository} {output} --repo-type dataset --delete "data/*"' in done.stderr
    assert (output / "README.md").exists()
    assert not hub.files.get("us/pairs")


def test_a_hub_that_is_not_there_is_named(url: str, job_id: str, tmp_path: Path, unused_url: str) -> None:
    wanted = ("--output", str(tmp_path / "pairs"), "--push-to-hub", "us/pairs")
    done = export(url, environment(unused_url), job_id, *wanted)
    assert done.returncode == 1
    assert f"the Hub cannot be reached for us/pairs at {unused_url}" in done.stderr.replace("\n", " ")
    assert "Traceback" not in done.stderr
