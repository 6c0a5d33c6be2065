"""The denoising errors that every objective is made of.

For an image x, noise ε, timestep t and target y (ε itself, or the velocity), a model f has the error

    m = mean over C, H, W of w · (f(x_t, t, prompt) − y)²          w: a weight a pixel, 1 unless given

Both images of a pair get the same ε and t.
"""

from dataclasses import dataclass

import torch


@dataclass(frozen=True)
class PairErrors:
    """The errors of policy and reference model on both images of every pair, (B,) each."""

    policy_chosen_B: torch.Tensor
    policy_rejected_B: torch.Tensor
    reference_chosen_B: torch.Tensor
    reference_rejected_B: torch.Tensor

    @property
    def chosen_excess_B(self) -> torch.Tensor:
        """d^w = m_w − r_w: how much worse than the reference model the policy denoises the chosen image."""
        return self.policy_chosen_B - self.reference_chosen_B

    @property
    def rejected_excess_B(self) -> torch.Tensor:
        """d^l = m_l − r_l."""
        return self.policy_rejected_B - self.reference_rejected_B


def squared_error(
    predicted_BCHW: torch.Tensor, target_BCHW: torch.Tensor, weights_B1HW: torch.Tensor | None = None
) -> torch.Tensor:
    """The mean squared error of every image, (B,), in float32."""
    error_BCHW = (predicted_BCHW.float() - target_BCHW.float()).square()
    if weights_B1HW is not None:
        error_BCHW = error_BCHW * weights_B1HW
    return error_BCHW.mean(dim=(1, 2, 3))
