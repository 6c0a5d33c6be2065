"""Diffusion-DPO (Wallace et al., arXiv 2311.12908, equation 14), with the hinge and IPO forms of its margin.

    s = −½ β [ (m_w − m_l) − (r_w − r_l) ]

    sigmoid   L = −log σ(s)
    hinge     L = max(0, 1 − s)                        (SLiC, arXiv 2305.10425)
    ipo       L = (s/β − 1/(2β))²                      (arXiv 2310.12036, its τ written as β)

    m   the policy's error        w   the chosen image         s   the implicit reward margin
    r   the reference's error     l   the rejected image       β   how close to stay to the reference model

β: the factor ½ is kept outside of it, as in the authors' code and in diffusers' SDXL script. diffusers' SD1.5
script folds it in: its 2500 is 5000 here.
"""

from typing import Literal

import torch
import torch.nn.functional as F

from trainer.objectives.errors import PairErrors


def diffusion_dpo(
    errors: PairErrors, beta: float, loss: Literal["sigmoid", "hinge", "ipo"] = "sigmoid"
) -> torch.Tensor:
    """The loss of every pair, (B,)."""
    margin_B = reward_margin(errors, beta)
    if loss == "sigmoid":
        return -F.logsigmoid(margin_B)
    if loss == "hinge":
        return torch.relu(1 - margin_B)
    return (margin_B / beta - 1 / (2 * beta)).square()


def reward_margin(errors: PairErrors, beta: float) -> torch.Tensor:
    """s: the implicit reward of the chosen image less that of the rejected one, (B,)."""
    return -0.5 * beta * (errors.chosen_excess_B - errors.rejected_excess_B)
