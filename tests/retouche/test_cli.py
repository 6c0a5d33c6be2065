"""The command line against a gateway: one JSON document for scripts, one sentence for mistakes."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from redis import Redis
from typer.testing import CliRunner, Result

from gateway.app import create_app
from retouche.cli.main import app
from retouche.store import ObjectStore, run, run_path
from tests.gateway.conftest import settings_for
from tests.live import live
from tests.trainer import worlds


@pytest.fixture
def url(store: ObjectStore, redis_url: str) -> Iterator[str]:
    """A gateway on the test's store; no worker and no service is up."""
    with live(create_app(settings_for(store.url, redis_url))) as url:
        yield url


def retouche(url: str, *arguments: str, stdin: str | None = None) -> Result:
    return CliRunner().invoke(app, list(arguments), env={"RETOUCHE_URL": url, "COLUMNS": "300"}, input=stdin)


def document(result: Result) -> Any:
    """The one JSON document on stdout."""
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


def test_a_submitted_job_is_listed_shown_and_cancelled(url: str) -> None:
    job = document(retouche(url, "curate", "a red circle on a gray background", "--no-wait", "--json"))
    assert [listed["id"] for listed in document(retouche(url, "jobs", "list", "--json"))] == [job["id"]]
    assert document(retouche(url, "jobs", "show", job["id"], "--json"))["state"] == "queued"
    assert job["id"] in retouche(url, "jobs", "list").stderr
    assert document(retouche(url, "jobs", "cancel", job["id"], "--json"))["state"] == "cancelled"
    followed = retouche(url, "jobs", "follow", job["id"], "--json")
    assert (followed.exit_code, json.loads(followed.stdout)["state"]) == (1, "cancelled")
    assert document(retouche(url, "jobs", "retry", job["id"], "--json"))["state"] == "queued"


def test_what_redis_has_lost_is_recovered_jobs_and_runs(url: str, store: ObjectStore, redis_url: str) -> None:
    job = document(retouche(url, "curate", "a red circle on a gray background", "--no-wait", "--json"))
    train = document(retouche(url, "train", worlds.finished_job(store), "--no-wait", "--json"))
    with Redis.from_url(redis_url) as connection:
        connection.flushall()
    recovered = document(retouche(url, "recover", "--json"))
    assert [found["id"] for found in (*recovered["jobs"], *recovered["runs"])] == [job["id"], train["id"]]
    assert "0 runs had something missing: none" in retouche(url, "recover").stderr


def test_prompts_come_from_files_and_from_stdin(url: str, tmp_path: Path) -> None:
    file = tmp_path / "prompts.txt"
    file.write_text("a red circle on a gray background\na blue square on a white background\n")
    from_file = document(retouche(url, "curate", "--prompts", str(file), "--no-wait", "--json"))
    piped = retouche(url, "curate", "-", "--no-wait", "--json", stdin=file.read_text())
    assert from_file["prompts"] == 2
    assert document(piped)["id"] == from_file["id"]


def test_pairs_are_listed_and_exported(url: str, store: ObjectStore, tmp_path: Path) -> None:
    job = worlds.finished_job(store)
    assert len(document(retouche(url, "pairs", "list", job, "--json"))) == 8
    output = tmp_path / "pairs.parquet"
    assert retouche(url, "pairs", "export", job, "--output", str(output)).exit_code == 0
    assert output.read_bytes()[:4] == b"PAR1"
    for name in ("sheet.png", "sheet"):
        sheet = tmp_path / name
        assert retouche(url, "pairs", "sheet", job, "--output", str(sheet)).exit_code == 0
        assert sheet.read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize("name", ["data[v2]", "[/v2]", "data:smile:"])
def test_brackets_and_colons_in_a_path_are_told_as_they_are(
    url: str, store: ObjectStore, tmp_path: Path, name: str
) -> None:
    job, path = worlds.finished_job(store), tmp_path / name
    path.parent.mkdir(exist_ok=True)
    file, folder, page = (path.with_name(path.name + ending) for ending in (".parquet", "", ".html"))
    run_id = document(retouche(url, "train", job, "--no-wait", "--json"))["id"]
    run(store.put(run_path(run_id, "artifacts/README.md"), b"# a card"))
    for arguments, says in (
        (("pairs", "export", job, "--output", str(file)), f"wrote {file} ("),
        (("pairs", "export", job, "--output", str(folder)), f"wrote {folder} ("),
        (("report", job, "--output", str(page)), f"Look at {page}"),
        (("runs", "artifacts", run_id, "--output", str(folder)), str(folder / "README.md")),
    ):
        result = retouche(url, *arguments)
        assert result.exit_code == 0, result.output
        assert says in result.stderr


@pytest.mark.parametrize("output", ["pairs.parquet", "pairs.ndjson", "pairs"])
def test_what_is_finished_of_a_job_is_not_exported_as_all_of_it(
    url: str, store: ObjectStore, tmp_path: Path, output: str
) -> None:
    job, written = worlds.submit(store, shards=2), tmp_path / output
    worlds.finish(store, job, 0)
    result = retouche(url, "pairs", "export", job, "--output", str(written))
    assert result.exit_code == 1
    assert "1 of 2 shards" in result.stderr
    assert not written.exists()
    document(retouche(url, "jobs", "cancel", job, "--json"))
    assert retouche(url, "pairs", "export", job, "--output", str(written)).exit_code == 0
    assert written.exists()


def test_a_run_is_submitted_listed_and_its_artifacts_fetched(
    url: str, store: ObjectStore, tmp_path: Path
) -> None:
    job = worlds.finished_job(store)
    submitted = document(retouche(url, "train", job, "--steps", "3", "--no-wait", "--json"))
    assert submitted["spec"]["optimisation"]["steps"] == 3
    assert [listed["id"] for listed in document(retouche(url, "runs", "list", "--json"))] == [submitted["id"]]
    run(store.put(run_path(submitted["id"], "artifacts/README.md"), b"# a card"))
    files = document(retouche(url, "runs", "artifacts", submitted["id"], "--output", str(tmp_path), "--json"))
    assert [Path(file).read_text() for file in files] == ["# a card"]
    assert document(retouche(url, "runs", "cancel", submitted["id"], "--json"))["state"] == "cancelled"


def test_a_run_can_be_a_file(url: str, store: ObjectStore, tmp_path: Path) -> None:
    job, file = worlds.finished_job(store), tmp_path / "run.yaml"
    file.write_text(
        f"data: {{job: {job}}}\nobjective: {{name: rich_dpo, strength: 0.7}}\ntuning: {{kind: full}}\n"
    )
    spec = document(retouche(url, "train", "--spec", str(file), "--no-wait", "--json"))["spec"]
    assert (spec["objective"]["strength"], spec["tuning"]["kind"]) == (0.7, "full")


def test_a_file_that_names_no_objective_is_of_the_default_one(
    url: str, store: ObjectStore, tmp_path: Path
) -> None:
    job, file = worlds.finished_job(store), tmp_path / "run.yaml"
    file.write_text(f"data: {{job: {job}}}\nobjective: {{beta: 100}}\ntuning: {{rank: 8}}\n")
    spec = document(retouche(url, "train", "--spec", str(file), "--no-wait", "--json"))["spec"]
    assert (spec["objective"]["name"], spec["objective"]["beta"]) == ("diffusion_dpo", 100)
    assert (spec["tuning"]["kind"], spec["tuning"]["rank"]) == ("lora", 8)


def test_what_is_typed_goes_over_the_file(url: str, store: ObjectStore, tmp_path: Path) -> None:
    job, file = worlds.finished_job(store), tmp_path / "run.yaml"
    file.write_text(
        "objective: {name: rich_dpo, strength: 0.7}\noptimisation: {steps: 40, batch_size: 4}\nseed: 1\n"
    )
    typed = ("--steps", "500", "--rank", "4", "--seed", "7", "--reviewed", "not_rejected")
    spec = document(retouche(url, "train", job, "--spec", str(file), *typed, "--no-wait", "--json"))["spec"]
    assert (spec["data"]["job"], spec["data"]["reviewed"]) == (job, "not_rejected")
    assert (spec["objective"]["name"], spec["objective"]["strength"]) == ("rich_dpo", 0.7)
    assert (spec["optimisation"]["steps"], spec["optimisation"]["batch_size"]) == (500, 4)
    assert (spec["tuning"], spec["seed"]) == ({"kind": "lora", "rank": 4, "alpha": None}, 7)


def test_an_objective_that_has_not_the_fields_of_the_file_is_refused(url: str, tmp_path: Path) -> None:
    file = tmp_path / "run.yaml"
    file.write_text("data: {job: job-0000000000000000}\nobjective: {name: rich_dpo, strength: 0.7}\n")
    result = retouche(url, "train", "--spec", str(file), "--objective", "sft")
    assert result.exit_code == 1
    assert "objective.sft.strength" in result.stderr


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("curate",), "prompts"),
        (("curate", "--prompts", "nowhere.txt"), "nowhere.txt"),
        (("curate", "a red circle", "--images-per-prompt", "99"), "images_per_prompt"),
        (("curate", "a red circle", "--agreement", "never"), "agreement"),
        (("jobs", "show", "job-0000000000000000"), "there is no job"),
        (("pairs", "export", "job-0000000000000000", "--output", "x.parquet"), "there is no job"),
        (("train",), "job"),
        (("train", "job-0000000000000000"), "there is no job"),
        (("train", "job-0000000000000000", "--objective", "ppo"), "objective"),
        (("train", "--spec", "nowhere.yaml"), "nowhere.yaml"),
        (("runs", "show", "run-0000000000000000"), "there is no run"),
        (("evaluate", "run-0000000000000000", "--prompts", "nowhere.txt"), "nowhere.txt"),
    ],
)
def test_a_mistake_is_one_sentence_and_no_traceback(url: str, arguments: tuple[str, ...], says: str) -> None:
    result = retouche(url, *arguments)
    assert result.exit_code == 1
    assert says in result.stderr
    assert "Traceback" not in result.stderr
    assert result.stdout == ""


def test_a_gateway_that_is_down_is_named() -> None:
    result = retouche("http://127.0.0.1:1", "jobs", "list")
    assert result.exit_code == 1
    assert "http://127.0.0.1:1" in result.stderr


def test_doctor_says_which_services_are_down(url: str) -> None:
    result = retouche(url, "doctor")
    assert "generation" in result.stderr
