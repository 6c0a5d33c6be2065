"""From a batch of pairs to the errors of policy and reference model on it."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from retouche.contract.runs import Objective
from trainer.batches import PairBatch, sent
from trainer.objectives.choice import pixel_weights
from trainer.objectives.errors import PairErrors, squared_error
from trainer.policy import Policy, predict


@dataclass(frozen=True)
class Noised:
    """Noisy images, N = 2B: the chosen ones, then the rejected ones, with what is to be predicted."""

    noisy_NCHW: torch.Tensor
    target_NCHW: torch.Tensor
    timesteps_N: torch.Tensor


def noised(policy: Policy, batch: PairBatch, seed: int, positions: Sequence[int]) -> Noised:
    """Both images of a pair with the same noise at the same timestep, drawn from seed and position alone."""
    latents_NCHW = torch.cat([batch.chosen_latents_BCHW, batch.rejected_latents_BCHW])
    scheduler = policy.noise_scheduler
    noise, timesteps = [], []
    for position in positions:
        generator = torch.Generator().manual_seed((seed * 1_000_003 + position) % 2**63)
        noise.append(torch.randn(batch.chosen_latents_BCHW.shape[1:], generator=generator))
        timesteps.append(torch.randint(scheduler.config.num_train_timesteps, (), generator=generator))
    noise_NCHW = sent(torch.stack(noise * 2), latents_NCHW.device)
    timesteps_N = sent(torch.stack(timesteps * 2), latents_NCHW.device)
    velocity = scheduler.config.prediction_type == "v_prediction"
    target_NCHW = scheduler.get_velocity(latents_NCHW, noise_NCHW, timesteps_N) if velocity else noise_NCHW
    return Noised(scheduler.add_noise(latents_NCHW, noise_NCHW, timesteps_N), target_NCHW, timesteps_N)


def pair_errors(
    policy: Policy, unet: torch.nn.Module, batch: PairBatch, noisy: Noised, objective: Objective
) -> PairErrors:
    """The errors of every pair. `unet` is the policy's, wrapped for several processes or not."""
    weights_B1HW = pixel_weights(objective, batch)
    weights_N1HW = None if weights_B1HW is None else torch.cat([weights_B1HW, weights_B1HW])
    with policy.reference() as reference:
        predicted_NCHW = predict(reference, noisy.noisy_NCHW, noisy.timesteps_N, batch)
        reference_N = squared_error(predicted_NCHW, noisy.target_NCHW, weights_N1HW)
    predicted_NCHW = predict(unet, noisy.noisy_NCHW, noisy.timesteps_N, batch)
    policy_N = squared_error(predicted_NCHW, noisy.target_NCHW, weights_N1HW)
    return PairErrors(*policy_N.chunk(2), *reference_N.chunk(2))
