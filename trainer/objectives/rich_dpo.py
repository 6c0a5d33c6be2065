"""Rich DPO, ours: Diffusion-DPO whose error counts where the chosen and the rejected image differ.

A corrected image differs from its original in the part that was edited. Elsewhere the two errors are those of
one and the same picture, and their difference is noise. So every latent pixel is weighted:

    δ  = mean over C of |x^w − x^l|                            the latent difference, (H, W)
    w  = 1 − strength + strength · δ / mean(δ)                 of mean 1

    m_w, m_l, r_w, r_l   with w inside the mean over pixels; the rest is Diffusion-DPO.

Strength 0 is Diffusion-DPO. Two equal images are weighted evenly.
"""

import torch


def difference_weights(
    chosen_latents_BCHW: torch.Tensor, rejected_latents_BCHW: torch.Tensor, strength: float
) -> torch.Tensor:
    """The weight of every latent pixel, (B, 1, H, W), of mean 1 in each pair."""
    difference_B1HW = (chosen_latents_BCHW - rejected_latents_BCHW).abs().mean(dim=1, keepdim=True)
    mean_B111 = difference_B1HW.mean(dim=(2, 3), keepdim=True)
    relative_B1HW = torch.where(mean_B111 > 0, difference_B1HW / mean_B111, 1.0)
    return 1 - strength + strength * relative_B1HW
