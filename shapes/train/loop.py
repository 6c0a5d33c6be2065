"""What every stage of the recipe shares: the device, the schedule, the moving average, progress lines."""

import copy
import math
import random
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import torch
from torch import nn

MODELS = Path(__file__).parent.parent / "models"


def start(seed: int) -> torch.device:
    """Seed everything and choose the device."""
    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)
    torch.set_flush_denormal(True)
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def warm_then_cosine(steps: int, warmup: int = 100, final: float = 0.02) -> Callable[[int], float]:
    """Learning-rate factor per step: linear warm-up, then cosine down to `final`."""

    def factor(step: int) -> float:
        if step < warmup:
            return (step + 1) / warmup
        done = min(1.0, (step - warmup) / max(1, steps - warmup))
        return final + (1 - final) * 0.5 * (1 + math.cos(math.pi * done))

    return factor


class Average:
    """An exponential moving average of a module's weights, with the usual ramp at the start."""

    def __init__(self, module: nn.Module, decay: float = 0.998) -> None:
        self.module = copy.deepcopy(module).requires_grad_(False)
        self.decay = decay
        self.steps = 0

    @torch.no_grad()
    def update(self, module: nn.Module) -> None:
        self.steps += 1
        decay = min(self.decay, (1 + self.steps) / (10 + self.steps))
        ours, theirs = list(self.module.parameters()), list(module.parameters())
        torch._foreach_lerp_(ours, theirs, 1 - decay)


def progress(name: str, steps: int, every: int = 100) -> Iterator[tuple[int, Callable[[float], None]]]:
    """Count steps; the function that comes with each takes its loss, and a line is printed now and then."""
    began, losses = time.perf_counter(), list[float]()
    for step in range(steps):
        yield step, losses.append
        if (step + 1) % every == 0 or step + 1 == steps:
            seconds = time.perf_counter() - began
            mean = sum(losses) / max(1, len(losses))
            print(f"{name}: step {step + 1}/{steps}  loss {mean:.4f}  {seconds:.0f} s", flush=True)
            losses.clear()
