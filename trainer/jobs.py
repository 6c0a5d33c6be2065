"""The RQ glue: one job is one training process, which does all the work and says itself how it ended."""

import signal
import subprocess
import sys
import threading
import time
from contextlib import suppress

from retouche.contract.runs import TrainingMetrics
from retouche.errors import NotFound, StoreUnavailable
from retouche.local.process import die_with_parent
from retouche.meters import tell
from retouche.store import ObjectStore, run, run_has_ended, run_path
from trainer.settings import Settings

# What accelerate launches by, GPUs or not. Told to stop, it gives its processes time for a checkpoint.
_LAUNCH = ("-m", "torch.distributed.run", "--standalone", "--shutdown-timeout=600")
_LOOK_SECONDS = 5.0
_PAUSE_SECONDS = 10  # before the next try, so that what passes (a full disk) may pass


class TrainerDied(Exception):
    """The training process ended without saying how; RQ starts it again, and it resumes."""


def train(run_id: str) -> None:
    """Run the training process of a run to its end, or until SIGTERM: then it keeps a checkpoint first."""
    store, told = ObjectStore(Settings().store), threading.Event()
    _train(store, run_id, told)
    # Again where the run was cancelled and, while its process ended, retried: nobody else takes it up.
    while not (told.is_set() or run(run_has_ended(store, run_id))):
        _train(store, run_id, told)


def _train(store: ObjectStore, run_id: str, told: threading.Event) -> None:
    """One training process, from its start to its end."""
    processes = Settings().train_processes
    launch = (*_LAUNCH, f"--nproc-per-node={processes}") if processes > 1 else ()
    command = [sys.executable, *launch, "-m", "trainer.run", run_id]
    process = subprocess.Popen(command, preexec_fn=die_with_parent)

    def stop(*_: object) -> None:
        told.set()
        process.terminate()

    signal.signal(signal.SIGTERM, stop)
    while (code := _ended(process)) is None:
        _tell_metrics(store, run_id)
    if code != 0 and not told.is_set():  # the launcher of several processes ends badly when told to stop
        time.sleep(_PAUSE_SECONDS)
        raise TrainerDied(f"the training process of {run_id} ended with code {code}")


def _ended(process: "subprocess.Popen[bytes]") -> int | None:
    try:
        return process.wait(_LOOK_SECONDS)
    except subprocess.TimeoutExpired:
        return None


def _tell_metrics(store: ObjectStore, run_id: str) -> None:
    """What the run has logged last, for Prometheus."""
    with suppress(NotFound, StoreUnavailable):
        *_, last = run(store.get(run_path(run_id, "metrics.jsonl"))).splitlines()
        logged = TrainingMetrics.model_validate_json(last)
        for name in ("step", "pairs_per_second", "loss", "implicit_accuracy", "reward_margin"):
            tell(name, getattr(logged, name))
