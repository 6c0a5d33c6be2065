"""`retouche up`: what it says when it cannot start, and that it leaves nothing behind."""

import asyncio
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from functools import partial
from itertools import takewhile
from pathlib import Path

import httpx2
import pytest
from fastapi import APIRouter, FastAPI

from retouche.client import Retouche
from retouche.contract.jobs import CurationSpec
from retouche.contract.services import Readiness
from retouche.errors import Conflict, Unavailable
from retouche.local.process import Process
from retouche.local.system import HOST, System, default_ports, free_ports, running, wait_until_ready
from serving.app import Loaded, create_app
from shapes.prompts import held_out_prompts
from tests.live import live

ROOT = Path(__file__).parents[3]


def processes_of(folder: Path) -> dict[int, str]:
    """Every process that was told of `folder` by its arguments or environment, zombies aside."""
    found = {}
    for process in Path("/proc").glob("[0-9]*"):
        try:
            command = (process / "cmdline").read_bytes()
            told = command + (process / "environ").read_bytes()
        except OSError:
            continue
        if int(process.name) != os.getpid() and os.fsencode(folder) in told:
            found[int(process.name)] = command.replace(b"\0", b" ").decode()
    return found


def movable_port() -> int:
    """The gateway's port, where those of all others are free too."""
    for first in range(20_000, 60_000, 20):
        try:
            for port in default_ports(workers=2, first=first).values():
                with socket.socket() as probe:
                    probe.bind((HOST, port))
        except OSError:
            continue
        return first
    raise RuntimeError("no free ports")


@contextmanager
def up(data: Path, port: int, **environment: str) -> Iterator["subprocess.Popen[str]"]:
    """`retouche up` as a process of its own, killed at the end if it is still there."""
    command = [sys.executable, "-m", "retouche.cli.main", "up", "--data", str(data), "--port", str(port)]
    command += ["--workers", "2"]
    process = subprocess.Popen(
        command, cwd=ROOT, env=os.environ | environment, stderr=subprocess.PIPE, text=True
    )
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def told_until_ready(process: "subprocess.Popen[str]") -> list[str]:
    """The lines of `retouche up` before the one that says that it is ready."""
    assert process.stderr is not None
    return list(takewhile(lambda line: not line.startswith("ready "), process.stderr))


@pytest.fixture
def taken() -> Iterator[int]:
    """A port that something listens at."""
    with socket.socket() as listener:
        listener.bind((HOST, 0))
        listener.listen()
        yield listener.getsockname()[1]


def test_a_taken_port_is_said_with_the_way_out(tmp_path: Path, taken: int) -> None:
    with up(tmp_path, taken) as process:
        assert process.wait(timeout=60) == 1
        assert process.stderr is not None
        said = process.stderr.read()
    assert f"port {taken} is taken" in said
    assert "choose another --port" in said
    assert "Traceback" not in said


def test_any_port_of_the_system_is_looked_at(tmp_path: Path, taken: int) -> None:
    with (
        pytest.raises(Conflict, match=str(taken)),
        running(tmp_path, ports=free_ports() | {"worker-1": taken}),
    ):
        pass
    assert not processes_of(tmp_path)


def test_a_process_that_dies_at_once_is_shown_with_the_end_of_its_log(tmp_path: Path) -> None:
    damaged = tmp_path / "redis" / "appendonlydir" / "appendonly.aof.manifest"
    damaged.parent.mkdir(parents=True)
    damaged.write_text("this is no manifest\n")
    with pytest.raises(Unavailable, match="redis died") as caught, running(tmp_path):
        pass
    assert str(tmp_path / "logs" / "redis.log") in caught.value.detail
    assert "manifest" in caught.value.detail
    assert not processes_of(tmp_path)


def test_models_that_cannot_be_loaded_are_not_waited_for(tmp_path: Path) -> None:
    with pytest.raises(Unavailable, match="there is no profile 'nowhere'"), running(tmp_path, "nowhere"):
        pass
    assert not processes_of(tmp_path)


@pytest.fixture
def slow() -> Iterator[dict[str, int]]:
    """The port that answers for the gateway and every service: their models take three seconds to load."""

    async def load(_: FastAPI) -> Loaded:
        await asyncio.sleep(3)
        return Readiness(), partial(asyncio.sleep, 0)

    with live(create_app("Slow", APIRouter(), load)) as url:
        yield dict.fromkeys(default_ports(), int(url.rpartition(":")[2]))


def test_models_that_are_still_loading_have_all_the_time_they_need(slow: dict[str, int]) -> None:
    told: list[tuple[str, str]] = []
    wait_until_ready(System("", ""), slow, lambda *what: told.append(what), most_seconds=1)
    said = "is still loading after 1 s; its log may say what it fetches"
    assert told.count(("editing", said)) == told.count(("editing", "ready")) == 1


def test_what_does_not_answer_has_not(slow: dict[str, int]) -> None:
    silent = slow | {"reward": free_ports()["reward"]}
    with pytest.raises(Unavailable, match="not ready after 1 s: reward: does not answer"):
        wait_until_ready(System("", ""), silent, lambda *_: None, most_seconds=1)


def test_a_folder_may_have_a_blank_in_its_name(tmp_path: Path) -> None:
    """Redis and the services start there: the profile alone is missing."""
    with (
        pytest.raises(Unavailable, match="there is no profile 'nowhere'"),
        running(tmp_path / "my data", "nowhere"),
    ):
        pass


@pytest.fixture
def mortal(tmp_path: Path) -> Iterator[Process]:
    """A process that runs until it is killed."""
    process = Process("critique", ["sleep", "3600"], tmp_path / "critique.log")
    process.start()
    yield process
    process.wait_or_kill(0)


def starts_of(process: Process, deaths: Iterable[int]) -> dict[int, str]:
    """Killed in each of these seconds, if it runs then: when it is started again, and what is said."""
    system = System("", "", [process])
    starts: dict[int, str] = {}
    told: list[str] = []
    for second in deaths:
        process.wait_or_kill(0)
        system.revive(lambda _, what: told.append(what), float(second))
        if process.running:
            starts[second] = told[-1]
    return starts


def test_a_process_is_started_again_however_often_it_dies(mortal: Process) -> None:
    """A prompt that kills a service does so six times, as soon as it is ready again; there may be many."""
    starts = starts_of(mortal, range(0, 800, 40))
    assert len(starts) == 20
    assert starts[0] == "died, started again"
    assert starts[760] == f"died, started again, 20 times in a row; see {mortal.log}"


def test_a_process_that_keeps_dying_is_started_again_less_and_less_often(mortal: Process) -> None:
    assert list(starts_of(mortal, range(100))) == [0, 2, 6, 14, 30, 62, 94]


def test_a_process_that_has_lived_for_long_is_started_again_at_once(mortal: Process) -> None:
    starts = starts_of(mortal, [*range(7), 66, 67, 68])
    assert list(starts) == [0, 2, 6, 66, 68]
    assert starts[66] == "died, started again"


def test_everything_is_kept_in_the_store_that_the_environment_names(tmp_path: Path) -> None:
    elsewhere, port = tmp_path / "elsewhere", movable_port()
    with up(tmp_path / "data", port, RETOUCHE_STORE=str(elsewhere)) as process:
        told = told_until_ready(process)
        assert process.poll() is None, told
        with Retouche(f"http://{HOST}:{port}") as client:
            job = client.submit(CurationSpec(prompts=tuple(held_out_prompts()[:1]))).id
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=120) == 0
    assert (elsewhere / "jobs" / job / "spec.json").exists()
    assert not (tmp_path / "data" / "store").exists()


def test_sigterm_in_the_middle_of_a_job_leaves_no_process(tmp_path: Path) -> None:
    port = movable_port()
    with up(tmp_path, port) as process:
        told = told_until_ready(process)
        meters = [line.split(" tells ") for line in told if " tells " in line]
        assert sorted(name.strip() for name, _ in meters) == ["trainer", "worker-1", "worker-2"], told
        for _, url in meters:
            assert "retouche_" in httpx2.get(url.strip(), trust_env=False).text
        with Retouche(f"http://{HOST}:{port}") as client:
            spec = CurationSpec(prompts=tuple(held_out_prompts()[:60]), images_per_prompt=8)
            job = client.submit(spec).id
            while not client.job(job).report.stages:
                assert process.poll() is None
                time.sleep(0.1)
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=120) == 0
        assert process.stderr is not None
        assert "goes on with the next" in process.stderr.read()
    assert processes_of(tmp_path) == {}
