"""What a run logs: sums kept on the device, read only at the logging interval."""

import math
import time

import torch

from retouche.contract.runs import Objective, Sft, TrainingMetrics
from retouche.errors import TrainingStopped
from trainer.objectives.diffusion_dpo import reward_margin
from trainer.objectives.errors import PairErrors

_NAMES = (
    "implicit_accuracy",
    "reward_margin",
    "chosen_error",
    "rejected_error",
    "reference_chosen_error",
    "reference_rejected_error",
)


class Meter:
    """Means over the steps since it was last read."""

    def __init__(self, objective: Objective, device: torch.device) -> None:
        self._beta = 1.0 if isinstance(objective, Sft) else objective.beta
        self._sums = torch.zeros(len(_NAMES) + 2, device=device)
        self._began = time.perf_counter()

    def add(self, errors: PairErrors, loss: torch.Tensor) -> None:
        """Take in a micro-batch and its share of the loss; nothing is read from the device."""
        margin_B = reward_margin(errors, self._beta)
        columns = (
            (margin_B > 0).float(),
            margin_B,
            errors.policy_chosen_B,
            errors.policy_rejected_B,
            errors.reference_chosen_B,
            errors.reference_rejected_B,
        )
        sums = [column.detach().sum() for column in columns]
        self._sums += torch.stack([*sums, loss.detach(), torch.full_like(loss.detach(), len(margin_B))])

    def read(self, step: int, steps: int, learning_rate: float) -> TrainingMetrics:
        """The means over `steps` steps and all processes; begins anew."""
        *sums, loss, pairs = _summed(self._sums).tolist()
        seconds = time.perf_counter() - self._began
        self._sums.zero_()
        self._began = time.perf_counter()
        means = {name: value / max(1.0, pairs) for name, value in zip(_NAMES, sums, strict=True)}
        return TrainingMetrics(
            step=step,
            loss=loss / max(1, steps),
            learning_rate=learning_rate,
            pairs_per_second=pairs / seconds,
            **means,
        )


def _summed(tensor: torch.Tensor) -> torch.Tensor:
    """A tensor added up over the processes of a run."""
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        tensor = tensor.clone()
        torch.distributed.all_reduce(tensor)
    return tensor


def stop_if_hopeless(metrics: TrainingMetrics, collapse_ratio: float) -> None:
    """Raise TrainingStopped where going on would only waste time.

    Raises:
        TrainingStopped: something measured is not finite, or the chosen images' own error has grown beyond
            `collapse_ratio` times the reference model's.
    """
    unsound = [f"{name} is {value}" for name, value in metrics if not math.isfinite(value)]
    if unsound:
        raise TrainingStopped(
            f"at step {metrics.step} {', '.join(unsound)}: lower learning_rate "
            f"(now {metrics.learning_rate:g}) or beta, or use mixed_precision bf16 instead of fp16"
        )
    ratio = metrics.chosen_error / max(metrics.reference_chosen_error, 1e-12)
    if ratio > collapse_ratio:
        raise TrainingStopped(
            f"the policy collapses: at step {metrics.step} its error on the chosen images is {ratio:.2f} "
            f"times the reference model's, beyond collapse_ratio {collapse_ratio:g}; lower learning_rate "
            "or beta, or raise anchor_weight"
        )
