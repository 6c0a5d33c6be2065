"""The head that the aesthetic predictor ends in, and ImageReward after it."""

import torch
from torch import nn


class LinearHead(nn.Module):
    """Features, (B, D), to scores, (B,): linear layers with nothing between them.

    Published with dropout between, which is why the numbers of its tensors have gaps; its authors had
    commented the activations out.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Linear(width, 1024),
            nn.Identity(),
            nn.Linear(1024, 128),
            nn.Identity(),
            nn.Linear(128, 64),
            nn.Identity(),
            nn.Linear(64, 16),
            nn.Linear(16, 1),
        )

    def forward(self, features_BD: torch.Tensor) -> torch.Tensor:
        scores_B1: torch.Tensor = self.layers(features_BD)
        return scores_B1[:, 0]
