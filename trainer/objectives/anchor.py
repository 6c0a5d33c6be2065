"""The anchor that may be added to every preference objective: weight · m_w.

A preference loss falls just as well by harming the rejected image faster than the chosen one, and does:
without an anchor the chosen image's own error rises.
"""

import torch

from trainer.objectives.errors import PairErrors


def anchor(errors: PairErrors, weight: float) -> torch.Tensor:
    """What is added to the loss of every pair, (B,)."""
    return weight * errors.policy_chosen_B
