"""The RQ glue: one job is one training process, which does all the work and says itself how it ended."""

import subprocess
import sys
import time

from trainer.settings import Settings

_LAUNCH = ("-m", "torch.distributed.run", "--standalone")  # what accelerate launches by, GPUs or not
_PAUSE_SECONDS = 10  # before the next try, so that what passes (a full disk) may pass


class TrainerDied(Exception):
    """The training process ended without saying how; RQ starts it again, and it resumes."""


def train(run_id: str) -> None:
    """Run the training process of a run to its end."""
    processes = Settings().train_processes
    launch = (*_LAUNCH, f"--nproc-per-node={processes}") if processes > 1 else ()
    code = subprocess.run([sys.executable, *launch, "-m", "trainer.run", run_id], check=False).returncode
    if code != 0:
        time.sleep(_PAUSE_SECONDS)
        raise TrainerDied(f"the training process of {run_id} ended with code {code}")
