"""Supervised fine-tuning on the chosen images: L = m_w. The rejected ones are only measured."""

import torch

from trainer.objectives.errors import PairErrors


def sft(errors: PairErrors) -> torch.Tensor:
    """The loss of every pair, (B,)."""
    return errors.policy_chosen_B
