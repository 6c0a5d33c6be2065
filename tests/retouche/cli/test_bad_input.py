"""What people get wrong is told in one sentence, with what to do, whatever the terminal makes of brackets."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from retouche.cli.main import app
from tests.gateway.server import NOTHING_LISTENS

NO_JOB = "job-" + "0" * 16
NO_RUN = "run-" + "0" * 16


def retouche(url: str, *arguments: str, stdin: str | None = None) -> Result:
    return CliRunner().invoke(app, list(arguments), env={"RETOUCHE_URL": url, "COLUMNS": "200"}, input=stdin)


def refused(result: Result) -> str:
    """What was said; nothing of it on stdout, and no traceback."""
    assert result.exit_code in (1, 2), result.output
    assert isinstance(result.exception, SystemExit), repr(result.exception)
    assert result.stdout == ""
    return result.stderr


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("curate",), "give prompts, or --prompts FILE, or - for stdin"),
        (("curate", "x", "--prompts", "prompts.txt"), "several were given"),
        (("curate", ""), "prompts.0"),
        (("curate", "x", "--reward", "clip=lots"), "rewards.0.margin"),
        (("curate", "x", "--reward", "a b"), "rewards.0.name"),
        (("curate", "x", "--images-per-prompt", "many"), "--images-per-prompt"),
        (("curate", "x", "--column", "prompt"), "--column"),
        (("curate", "x", "--edit", "both"), "--edit"),
        (("pairs", "export", NO_JOB, "--output", "no/such/folder/pairs.parquet"), "make it first"),
        (("pairs", "sheet", NO_JOB, "--output", "no/such/folder/sheet.png"), "make it first"),
        (("pairs", "list", NO_JOB, "--limit", "0"), "--limit"),
        (("jobs", "show", "seven"), "job_id"),
        (("jobs", "cancel", NO_JOB), f"there is no job {NO_JOB}"),
        (("jobs", "retry", NO_JOB), f"there is no job {NO_JOB}"),
        (("up", "--port", "70000"), "65461"),
        (("jobs", "shwo"), "No such command"),
    ],
)
def test_a_mistake_is_said(gateway_url: str, arguments: tuple[str, ...], says: str) -> None:
    assert says in refused(retouche(gateway_url, *arguments))


@pytest.mark.parametrize(
    "content",
    [b"", b"\n \n", b"\xff\xfe\x00", b"x" * 3_000],
    ids=["empty", "blank", "binary", "endless line"],
)
def test_a_prompt_file_that_is_none(gateway_url: str, tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "prompts.txt"
    file.write_bytes(content)
    assert "bad-prompts" in refused(retouche(gateway_url, "curate", "--prompts", str(file), "--no-wait"))


def test_nothing_on_stdin(gateway_url: str) -> None:
    assert "bad-prompts" in refused(retouche(gateway_url, "curate", "-", stdin=""))


@pytest.mark.parametrize(
    ("arguments", "content", "says"),
    [
        ((NO_RUN,), "a red circle", f"run-not-found: there is no run {NO_RUN}"),
        (("my-run",), "a red circle", "invalid-payload: run_id"),
        ((NO_RUN, "--images-per-prompt", "0"), "a red circle", "--images-per-prompt"),
        ((NO_RUN,), f"a red circle\n{'x' * 3_000}\n", "line 2: column 'prompt': String should have at most"),
        ((NO_RUN,), "\n", "holds no prompt"),
        ((NO_RUN, "--style", NO_JOB), "a red circle", "run-not-found"),
        ((NO_RUN, "--truth", "nowhere:score"), "a red circle", "names no function"),
        ((NO_RUN, "--truth", ":score"), "a red circle", "names no function"),
        ((NO_RUN, "--truth", "..shapes:score"), "a red circle", "names no function"),
        ((NO_RUN, "--truth", "os:environ"), "a red circle", "is _Environ, no function"),
    ],
)
def test_an_evaluation_that_cannot_be(
    gateway_url: str, tmp_path: Path, arguments: tuple[str, ...], content: str, says: str
) -> None:
    file = tmp_path / "prompts.txt"
    file.write_text(content)
    assert says in refused(retouche(gateway_url, "evaluate", *arguments, "--prompts", str(file)))


def test_a_loop_without_prompts(gateway_url: str) -> None:
    nowhere = ("--prompts", "nowhere.txt", "--evaluation-prompts", "nowhere.txt")
    assert "there is no file or folder nowhere.txt" in refused(retouche(gateway_url, "loop", *nowhere))


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (None, "run.yaml cannot be read"),
        ("objective: {name: ppo}", "objective"),
        ("tuning: {kind: full}", "tuning.kind is 'full'"),
    ],
)
def test_a_loop_whose_runs_could_not_be_trained_or_compared_curates_nothing(
    gateway_url: str, tmp_path: Path, content: str | None, says: str
) -> None:
    prompts, spec = tmp_path / "prompts.txt", tmp_path / "run.yaml"
    prompts.write_text("a red circle\n")
    if content is not None:
        spec.write_text(content)
    files = ("--prompts", str(prompts), "--evaluation-prompts", str(prompts), "--spec", str(spec))
    said = refused(retouche(gateway_url, "loop", *files))
    assert says in said
    assert "round 1" not in said


def test_a_wrong_option_is_said_before_anything_is_uploaded(tmp_path: Path) -> None:
    file = tmp_path / "prompts.txt"
    file.write_text("a red circle\n")
    said = refused(retouche(NOTHING_LISTENS, "curate", "--prompts", str(file), "--agreement", "never"))
    assert "invalid-payload: agreement" in said


def test_brackets_are_no_markup(gateway_url: str) -> None:
    assert "[/red]" in refused(retouche(gateway_url, "curate", "--prompts", "[/red].txt"))


def test_brackets_are_no_markup_in_help_either() -> None:
    assert "hf://datasets/OWNER/NAME[/PATH]" in retouche(NOTHING_LISTENS, "curate", "--help").stdout


@pytest.mark.parametrize(
    "arguments",
    [
        ("curate", "x"),
        ("jobs", "list", "--json"),
        ("jobs", "follow", NO_JOB),
        ("pairs", "list", NO_JOB),
        ("recover",),
    ],
    ids=" ".join,
)
def test_a_gateway_that_is_down_is_named(arguments: tuple[str, ...]) -> None:
    said = refused(retouche(NOTHING_LISTENS, *arguments))
    assert f"nothing answers at {NOTHING_LISTENS}" in said
    assert "\n" not in said.strip()


@pytest.mark.parametrize(
    "arguments",
    [("jobs", "list"), ("evaluate", NO_RUN, "--prompts", "prompts.txt"), ("report", NO_JOB)],
    ids=lambda arguments: arguments[0],
)
@pytest.mark.parametrize(
    ("environment", "says"),
    [
        ({"RETOUCHE_URL": "http://localhost:870x"}, "'http://localhost:870x' is no address: Invalid port"),
        ({"RETOUCHE_URL": "http://localhost:99999"}, "port 99999 is not from 1 to 65535"),
        ({"RETOUCHE_API_KEY": "schlüssel"}, "the API key of 9 characters cannot be sent"),
    ],
    ids=["no port", "port too high", "key"],
)
def test_an_address_or_a_key_that_is_none_is_said(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    arguments: tuple[str, ...],
    environment: dict[str, str],
    says: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("prompts.txt").write_text("a red circle")
    said = refused(CliRunner().invoke(app, arguments, env={"RETOUCHE_URL": NOTHING_LISTENS, **environment}))
    assert said.startswith("bad-request: ")
    assert says in said
    assert next(iter(environment)) in said, "where to put it right"
    assert "\n" not in said.strip()


def test_a_script_sees_the_code_and_an_empty_stdout(tmp_path: Path) -> None:
    """The command itself, as a shell runs it."""
    done = subprocess.run(
        [sys.executable, "-m", "retouche.cli.main", "jobs", "list", "--json"],
        env={**os.environ, "RETOUCHE_URL": NOTHING_LISTENS, "PYTHONPATH": str(Path(__file__).parents[3])},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("service-unreachable: ")
    assert "Traceback" not in done.stderr
