"""Runs the schedule, then the same work undisturbed, and compares."""

import argparse
import asyncio
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path

from bench.chaos.account import Account, account
from bench.chaos.faults import inflict
from bench.chaos.keeper import Keeper
from bench.chaos.schedule import FULL_DISK, KINDS, Planned, schedule
from bench.chaos.work import Work
from retouche.local.system import free_ports, running
from retouche.store import ObjectStore

WORKERS = 2
DISK_BYTES = 512_000_000
_INSIDE = "--in-own-mounts"


def main() -> None:
    """Exit with 1 where anything was lost, made twice or made differently."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--faults", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--patience", type=float, default=900, help="seconds for the work to end after all faults"
    )
    parser.add_argument("--keep-logs", type=Path, help="copy the processes' logs into this folder")
    parser.add_argument(_INSIDE, action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if not arguments.in_own_mounts and _can_mount():
        os.execvp("unshare", [*_unshare(), sys.executable, "-m", "bench.chaos", *sys.argv[1:], _INSIDE])
    with small_disk() if arguments.in_own_mounts else any_disk() as disk:
        disturbed, work, keeper = disturb(disk, arguments)
        _say(f"{len(work.jobs)} jobs and {len(work.runs)} runs have ended; now the same undisturbed")
        undisturbed, failures = leave_alone(disk, work)
    print(f"{work.runs_retried} times a run was killed so often that it was given up, and retried by hand")
    sys.exit(report(arguments.faults, disturbed, undisturbed, keeper, work.failures + failures))


def disturb(disk: Path, arguments: argparse.Namespace) -> tuple[Account, Work, Keeper]:
    """Work under faults."""
    data, ports = disk / "disturbed", free_ports(WORKERS)
    try:
        with running(data, workers=WORKERS, ports=ports) as system:
            keeper, work = Keeper(system, data, ports), Work(system.url)
            _poison(keeper)
            _say("ready")
            work.start()
            while not work.first_done.is_set():
                keeper.keep()
            kinds = [kind for kind in KINDS if kind != FULL_DISK or arguments.in_own_mounts]
            _inflict_all(schedule(arguments.seed, arguments.faults, kinds, WORKERS), keeper)
            keeper.end_all()
            _say("no more faults")
            work.enough.set()
            end = time.monotonic() + arguments.patience
            while not work.done and time.monotonic() < end:
                keeper.keep()
            if not work.done:
                work.failures.append(f"not done {arguments.patience:.0f} s after the last fault")
    finally:
        if arguments.keep_logs:
            subprocess.run(["cp", "-r", str(data / "logs"), str(arguments.keep_logs)], check=False)
    return asyncio.run(account(ObjectStore(str(data / "store")), work)), work, keeper


def leave_alone(disk: Path, work: Work) -> tuple[Account, list[str]]:
    """The same work where nothing dies but of the poison."""
    data, ports = disk / "undisturbed", free_ports(WORKERS)
    with running(data, workers=WORKERS, ports=ports) as system:
        keeper, again = Keeper(system, data, ports), Work(system.url)
        _poison(keeper)
        again.repeat(work)
        while not again.done:
            keeper.keep()
    return asyncio.run(account(ObjectStore(str(data / "store")), again)), again.failures


def report(
    faults: int, disturbed: Account, undisturbed: Account, keeper: Keeper, failures: Sequence[str]
) -> bool:
    """Print the table and the line of JSON; was anything wrong?"""
    for failure in failures:
        print(f"FAILED: {failure}")
    print(f"{'':<14} {'disturbed':>10} {'undisturbed':>12}")
    for name in ("submitted", "paired", "filtered", "dead_lettered", "lost", "duplicated"):
        print(f"{name:<14} {getattr(disturbed, name):>10} {getattr(undisturbed, name):>12}")
    for cause, count in disturbed.causes.items():
        print(f"dead-lettered {count}: {cause}")
    slowest = max(keeper.recovery_seconds, default=0.0)
    print(f"{keeper.restarts} processes were started again")
    print(f"{len(keeper.recovery_seconds)} killed workers; their shards were queued again in {slowest:.1f} s")
    found = {
        "benchmark": "chaos",
        "faults": faults,
        **{name: getattr(disturbed, name) for name in ("submitted", "paired", "filtered", "dead_lettered")},
        "lost": disturbed.lost,
        "duplicated": disturbed.duplicated,
        "digest": disturbed.digest,
        "undisturbed_digest": undisturbed.digest,
        "run_digest": disturbed.run_digest,
        "undisturbed_run_digest": undisturbed.run_digest,
        "recovery_seconds": round(slowest, 1),
    }
    print(json.dumps(found))
    same = disturbed.made_the_same_as(undisturbed)
    return bool(failures) or not same or disturbed.lost != 0 or disturbed.duplicated != 0


def _say(what: str) -> None:
    print(f"{datetime.now():%H:%M:%S}  {what}", flush=True)


def _poison(keeper: Keeper) -> None:
    """The critique service as it is, but one prompt kills it."""
    critique = keeper.process("critique")
    critique.command = [sys.executable, "-m", "bench.chaos.poisoned"]
    critique.ask_to_stop()
    critique.wait_or_kill()
    keeper.keep()


def _inflict_all(plan: Iterable[Planned], keeper: Keeper) -> None:
    """One after another; what cannot be done now is done later."""
    waiting = list(plan)
    while waiting:
        planned = waiting.pop(0)
        keeper.keep(planned.pause_seconds)
        if inflict(planned, keeper):
            _say(planned.kind)
        else:
            waiting.append(planned)


@contextmanager
def small_disk() -> Iterator[Path]:
    """A folder on a file system of its own, small enough to be filled; nobody else sees it."""
    with tempfile.TemporaryDirectory(prefix="retouche-chaos-") as folder:
        subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={DISK_BYTES}", "tmpfs", folder], check=True)
        try:
            yield Path(folder)
        finally:
            subprocess.run(["umount", "--lazy", folder], check=True)


@contextmanager
def any_disk() -> Iterator[Path]:
    """A temporary folder, where nothing can be mounted."""
    with tempfile.TemporaryDirectory(prefix="retouche-chaos-") as folder:
        yield Path(folder)


def _unshare() -> list[str]:
    """Begins a command that runs with mounts of its own, as root or as one's own root."""
    return ["unshare", "--mount", *(() if os.geteuid() == 0 else ("--user", "--map-root-user"))]


def _can_mount() -> bool:
    """May file systems be mounted there?"""
    probe = [*_unshare(), "mount", "-t", "tmpfs", "tmpfs", "/mnt"]
    possible = subprocess.run(probe, capture_output=True, check=False).returncode == 0
    if not possible:
        _say("NO FULL DISK: nothing can be mounted here; run as root, or allow user namespaces")
    return possible


if __name__ == "__main__":
    main()
