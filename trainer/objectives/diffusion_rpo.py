"""Diffusion-RPO, *relative* preference optimization (Gu et al., arXiv 2406.06382).

Every chosen image of the effective batch is contrasted with every rejected one, across prompts, the more the
nearer they are in CLIP space:

    s_ij = −½ β (d_i^w − d_j^l)                d = m − r, the policy's excess error over the reference's
    ω_ij = softmax_j( −(1 − cos(e_i^w, e_j^l)) / τ )
    L    = mean_ij −log σ( ω_ij s_ij )

    e   a unit embedding of prompt and image together (trainer/encode.py)
    τ   temperature: small ones look at the nearest rejected image only
    β   as in Diffusion-DPO, the ½ outside of it

With one pair ω = 1 and this is Diffusion-DPO. A row of ω sums to 1 inside the sigmoid, so the effective β
falls as the batch grows unless τ is small.
"""

import torch
import torch.nn.functional as F


def diffusion_rpo(
    chosen_excess_I: torch.Tensor, rejected_excess_J: torch.Tensor, weights_IJ: torch.Tensor, beta: float
) -> torch.Tensor:
    """The loss of every chosen image against all rejected ones, (I,)."""
    margins_IJ = -0.5 * beta * (chosen_excess_I[:, None] - rejected_excess_J[None, :])
    return -F.logsigmoid(weights_IJ * margins_IJ).mean(dim=1)


def relation_weights(
    chosen_relation_IE: torch.Tensor, rejected_relation_JE: torch.Tensor, temperature: float
) -> torch.Tensor:
    """ω (I, J) from unit vectors; every row sums to 1."""
    distance_IJ = 1 - chosen_relation_IE @ rejected_relation_JE.T
    return torch.softmax(-distance_IJ / temperature, dim=1)
