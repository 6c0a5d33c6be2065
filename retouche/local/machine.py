"""What this machine has: GPUs, what of the Hub is here already, a token for the rest."""

import importlib.util
import shutil
import subprocess
from pathlib import Path


def gpu_bytes() -> list[int]:
    """The memory of each NVIDIA GPU; empty where there is none."""
    program = shutil.which("nvidia-smi")
    if program is None:
        return []
    asked = [program, "--query-gpu=memory.total", "--format=csv,noheader,nounits"]
    answer = subprocess.run(asked, capture_output=True, text=True, check=False)
    mebibytes = [line.strip() for line in answer.stdout.splitlines()] if answer.returncode == 0 else []
    return [int(each) * 2**20 for each in mebibytes if each.isdigit()]


def downloaded(model: str, pattern: str) -> bool:
    """Whether the Hub's cache holds files of a model that fit `pattern`."""
    if importlib.util.find_spec("huggingface_hub") is None:
        return False
    from huggingface_hub.constants import HF_HUB_CACHE

    snapshots = Path(HF_HUB_CACHE) / f"models--{model.replace('/', '--')}" / "snapshots"
    return any(snapshots.rglob(pattern))


def has_hub_token() -> bool:
    """Whether a token of the Hub is in the environment or was left by `hf auth login`."""
    if importlib.util.find_spec("huggingface_hub") is None:
        return False
    from huggingface_hub import get_token

    return get_token() is not None
