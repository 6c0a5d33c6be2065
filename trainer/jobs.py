"""The RQ glue: one job is one training process, which does all the work and says itself how it ended."""

import subprocess
import sys

from trainer.settings import Settings

_LAUNCH = ("-m", "accelerate.commands.launch", "--multi_gpu", "--module")


class TrainerDied(Exception):
    """The training process ended without saying how; RQ starts it again, and it resumes."""


def train(run_id: str) -> None:
    """Run the training process of a run to its end."""
    processes = Settings().train_processes
    how = (*_LAUNCH, f"--num_processes={processes}") if processes > 1 else ("-m",)
    code = subprocess.run([sys.executable, *how, "trainer.run", run_id], check=False).returncode
    if code != 0:
        raise TrainerDied(f"the training process of {run_id} ended with code {code}")
