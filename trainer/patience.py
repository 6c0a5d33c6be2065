"""How the other processes of a run wait for what the first one alone does."""

from datetime import timedelta
from typing import Any

import torch

# Importing and encoding may take days. If the first process dies, the launcher ends those that wait for it.
_PATIENCE = timedelta(days=30)


def patient_group() -> Any:
    """A group that waits as long as it takes, None where there is one process; every process makes it.

    Not the default group, in which the training itself waits: there a process that hangs should end the run.
    """
    if not torch.distributed.is_initialized() or torch.distributed.get_world_size() == 1:
        return None
    return torch.distributed.new_group(backend="gloo", timeout=_PATIENCE)
