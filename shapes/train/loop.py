"""What every stage of the recipe shares: the device, one step, the schedule, the moving average, progress.

Under `torchrun --nproc-per-node N` the diffusion stages share their batch among N processes of one thread,
which on a CPU is half as fast again as one process of N threads.
"""

import copy
import math
import os
import random
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from datetime import timedelta
from pathlib import Path
from typing import Generic, TypeVar

import numpy as np
import torch
from torch import distributed, nn

ModuleT = TypeVar("ModuleT", bound=nn.Module)

_SHARE = ContextVar("share", default=1.0)
_ALONE = ContextVar("alone", default=False)
_LONGEST_STAGE = timedelta(hours=24)  # the others wait while one process trains, or measures, alone
MODELS = Path(__file__).parent.parent / "models"


def join() -> None:
    """Join the other processes, if there are any."""
    if distributed.is_torchelastic_launched():
        distributed.init_process_group("gloo", timeout=_LONGEST_STAGE)


def wait_for_all() -> None:
    """Come back once every process is here."""
    if distributed.is_initialized():
        distributed.barrier()


def start(seed: int) -> torch.device:
    """Seed everything, and choose the device."""
    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)
    torch.set_flush_denormal(True)
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


@contextmanager
def rehearsal(share: float) -> Iterator[None]:
    """Inside, whatever counts by `scaled` does this share of its work: the recipe's own test."""
    token = _SHARE.set(share)
    try:
        yield
    finally:
        _SHARE.reset(token)


def scaled(count: int, least: int = 2) -> int:
    """How many steps to take, or pictures to make, where the whole recipe asks for `count`."""
    return max(min(count, least), round(count * _SHARE.get()))


def rank() -> int:
    return distributed.get_rank() if distributed.is_initialized() else 0


def processes() -> int:
    return distributed.get_world_size() if distributed.is_initialized() and not _ALONE.get() else 1


@contextmanager
def alone() -> Iterator[None]:
    """Inside, the first process does the whole work, on the cores of all."""
    token, threads = _ALONE.set(True), torch.get_num_threads()
    if distributed.is_initialized():
        torch.set_num_threads(os.cpu_count() or 1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)
        _ALONE.reset(token)


def own_random(seed: int) -> random.Random:
    """Random numbers of this process alone, torch's included; call it once the weights are made."""
    torch.manual_seed(seed * 1000 + rank())
    return random.Random(seed * 1000 + rank())


def gathered(texts: list[str]) -> list[str]:
    """The texts of all processes together."""
    if processes() == 1:
        return texts
    parts = [list[str]()] * processes()
    distributed.all_gather_object(parts, texts)
    return [text for part in parts for text in part]


def descend(
    loss: torch.Tensor,
    optimizer: torch.optim.Optimizer,
    schedule: torch.optim.lr_scheduler.LRScheduler,
) -> float:
    """One optimiser step, gradients averaged over processes and clipped to norm 1; the loss as a number."""
    optimizer.zero_grad(set_to_none=True)
    loss.backward()
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    if processes() > 1:
        _average_gradients(parameters)
    torch.nn.utils.clip_grad_norm_(parameters, 1.0)
    optimizer.step()
    schedule.step()
    return loss.item()


def _average_gradients(parameters: list[nn.Parameter]) -> None:
    gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
    flat = torch.cat([gradient.reshape(-1) for gradient in gradients])
    distributed.all_reduce(flat)
    flat /= processes()
    for gradient, part in zip(
        gradients, flat.split([gradient.numel() for gradient in gradients]), strict=True
    ):
        gradient.copy_(part.view_as(gradient))


def warm_then_cosine(steps: int, warmup: int = 100, final: float = 0.02) -> Callable[[int], float]:
    """Learning-rate factor per step: linear warm-up, then cosine down to `final`."""

    def factor(step: int) -> float:
        if step < warmup:
            return (step + 1) / warmup
        done = min(1.0, (step - warmup) / max(1, steps - warmup))
        return final + (1 - final) * 0.5 * (1 + math.cos(math.pi * done))

    return factor


class Average(Generic[ModuleT]):
    """An exponential moving average of a module's weights, with the usual ramp at the start."""

    def __init__(self, module: ModuleT, decay: float = 0.998) -> None:
        self.module = copy.deepcopy(module)
        self.module.requires_grad_(False)
        self.decay = decay
        self.steps = 0

    @torch.no_grad()
    def update(self, module: ModuleT) -> None:
        self.steps += 1
        decay = min(self.decay, (1 + self.steps) / (10 + self.steps))
        ours: list[torch.Tensor] = [*self.module.parameters()]
        theirs: list[torch.Tensor] = [*module.parameters()]
        torch._foreach_lerp_(ours, theirs, 1 - decay)


def progress(name: str, steps: int, every: int = 100) -> Iterator[tuple[int, Callable[[float], None]]]:
    """Count steps; the function that comes with each takes its loss, and a line is printed now and then."""
    began, losses = time.perf_counter(), list[float]()
    for step in range(steps):
        yield step, losses.append
        if (step + 1) % every == 0 or step + 1 == steps:
            seconds = time.perf_counter() - began
            mean = sum(losses) / max(1, len(losses))
            if rank() == 0:
                print(f"{name}: step {step + 1}/{steps}  loss {mean:.4f}  {seconds:.0f} s", flush=True)
            losses.clear()
