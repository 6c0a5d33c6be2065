"""From a run's objective to its loss on a micro-batch.

Losses are means over the effective batch. A micro-batch returns its share of that mean, so that the shares of
all micro-batches and processes add up to it.
"""

from dataclasses import dataclass

import torch

from retouche.contract.runs import DiffusionRpo, Objective, RichDpo, Sft
from trainer.batches import PairBatch
from trainer.objectives.anchor import anchor
from trainer.objectives.diffusion_dpo import diffusion_dpo
from trainer.objectives.diffusion_rpo import diffusion_rpo, relation_weights
from trainer.objectives.errors import PairErrors
from trainer.objectives.rich_dpo import difference_weights
from trainer.objectives.sft import sft


@dataclass(frozen=True)
class Whole:
    """What diffusion_rpo needs of the whole effective batch, of which this micro-batch is one of `parts`.

    `begin` is its first row.
    """

    chosen_excess_I: torch.Tensor
    rejected_excess_J: torch.Tensor
    weights_IJ: torch.Tensor
    begin: int
    parts: int


def pixel_weights(objective: Objective, batch: PairBatch) -> torch.Tensor | None:
    """How much every latent pixel counts, (B, 1, H, W); None: all alike."""
    if not isinstance(objective, RichDpo):
        return None
    return difference_weights(batch.chosen_latents_BCHW, batch.rejected_latents_BCHW, objective.strength)


def share_of_loss(
    objective: Objective, errors: PairErrors, pairs: int, whole: Whole | None = None
) -> torch.Tensor:
    """This micro-batch's share of the loss of an effective batch of `pairs` pairs, a scalar."""
    if isinstance(objective, Sft):
        return sft(errors).sum() / pairs
    anchored = anchor(errors, objective.anchor_weight or 0.0).sum() / pairs
    if isinstance(objective, DiffusionRpo):
        if whole is None:
            raise ValueError("diffusion_rpo needs the errors of the whole effective batch")
        return _relative(objective, errors, whole) + anchored
    form = "sigmoid" if isinstance(objective, RichDpo) else objective.loss
    return diffusion_dpo(errors, objective.beta, form).sum() / pairs + anchored


def whole_batch(
    objective: DiffusionRpo,
    chosen_excess_I: torch.Tensor,
    rejected_excess_J: torch.Tensor,
    relations: tuple[torch.Tensor, torch.Tensor],
    begin: int,
    size: int,
) -> Whole:
    """The context of the `size` rows from `begin` on; errors and relations are of the whole batch."""
    weights_IJ = relation_weights(*relations, objective.temperature)
    return Whole(
        chosen_excess_I.detach(), rejected_excess_J.detach(), weights_IJ, begin, len(weights_IJ) // size
    )


def _relative(objective: DiffusionRpo, errors: PairErrors, whole: Whole) -> torch.Tensor:
    """The loss of the whole batch as a function of this micro-batch's errors alone.

    The gradient is this micro-batch's part of the whole one's; the value an equal share of it.
    """
    chosen_I, rejected_J = whole.chosen_excess_I.clone(), whole.rejected_excess_J.clone()
    own = slice(whole.begin, whole.begin + len(errors.chosen_excess_B))
    chosen_I[own], rejected_J[own] = errors.chosen_excess_B, errors.rejected_excess_B
    loss = diffusion_rpo(chosen_I, rejected_J, whole.weights_IJ, objective.beta).mean()
    return loss - loss.detach() * (1 - 1 / whole.parts)
