"""What each fault does. `inflict` says whether it could: a work-horse that is not there cannot be killed."""

import os
import shutil
import signal
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

from bench.chaos.keeper import Keeper
from bench.chaos.schedule import FULL_DISK, KILLS, Planned
from retouche.local.process import Process

HELD_UP_SECONDS = 30.0
FULL_SECONDS = 8.0
_TRAINING = b"trainer.run"


def inflict(planned: Planned, keeper: Keeper) -> bool:
    """Do it; False if what it is about is not there now."""
    done = _inflicted(planned, keeper)
    if done and planned.kind in ("redis", "emptied redis"):
        keeper.forget_lost()
    return done


def _inflicted(planned: Planned, keeper: Keeper) -> bool:
    if planned.kind in KILLS:
        return keeper.is_up(planned.kind) and _kill([keeper.process(planned.kind).pid])
    worker = _at_work(keeper, planned.worker)
    trainer = keeper.process("trainer")
    deeds: dict[str, Callable[[], bool]] = {
        "worker": lambda: _kill([worker.pid]),
        "work-horse": lambda: _kill(_others(worker)),
        "worker's machine": lambda: bool(_others(worker)) and keeper.lose(worker) and _kill(worker.members),
        "worker held up": lambda: _hold_up(keeper, worker),
        "trainer": lambda: bool(_others(trainer)) and _kill([trainer.pid]),
        "training process": lambda: _kill([pid for pid in _others(trainer) if _is_training(pid)]),
        "trainer's machine": lambda: bool(_others(trainer)) and _kill(trainer.members),
        FULL_DISK: lambda: _fill(keeper),
        "emptied redis": lambda: keeper.is_up("redis") and keeper.redis.flushall(),
    }
    return worker.running and trainer.running and deeds[planned.kind]()


def _at_work(keeper: Keeper, first: int) -> Process:
    """That worker, or the next one with a work-horse; that one if none has."""
    workers = [process for process in keeper.system.processes if process.name.startswith("worker-")]
    in_turn = workers[first:] + workers[:first]
    busy = (worker for worker in in_turn if _others(worker) and not keeper.is_held(worker))
    return next(busy, in_turn[0])


def _kill(processes: Sequence[int | None]) -> bool:
    for pid in processes:
        if pid is not None:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
    return bool(processes)


def _others(process: Process) -> list[int]:
    """What a process has started."""
    return [pid for pid in process.members if pid != process.pid]


def _is_training(pid: int) -> bool:
    with suppress(OSError):
        return _TRAINING in Path(f"/proc/{pid}/cmdline").read_bytes()
    return False


def _hold_up(keeper: Keeper, worker: Process) -> bool:
    """As a machine that is suspended: worker and work-horse stand still, and later know nothing of it."""
    members = _others(worker) and worker.members
    if not members or keeper.is_held(worker):
        return False
    for pid in members:
        os.kill(pid, signal.SIGSTOP)

    def go_on() -> None:
        for pid in members:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGCONT)

    keeper.hold(worker, HELD_UP_SECONDS, go_on)
    return True


def _fill(keeper: Keeper) -> bool:
    """Not a byte is left for store, Redis, checkpoints and logs, for a while."""
    filler = keeper.data / "filler"
    if filler.exists():
        return False
    with suppress(OSError), filler.open("wb", buffering=0) as file:
        file.write(bytes(shutil.disk_usage(keeper.data).free))
        while True:
            file.write(bytes(4096))
    keeper.later(FULL_SECONDS, filler.unlink)
    return True
