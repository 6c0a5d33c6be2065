"""The policy and its reference model: a UNet with an adapter that can be switched off, or two UNets."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from diffusers import DDPMScheduler, UNet2DConditionModel
from peft import LoraConfig

from retouche.contract.runs import PREDICTION_TYPES, Full, Lora, Tuning
from trainer.batches import PairBatch
from trainer.refusal import refused
from trainer.whole import load_whole

ATTENTION = ["to_q", "to_k", "to_v", "to_out.0"]


@dataclass(frozen=True)
class Policy:
    """The UNet that is trained. `frozen` is the reference model; None: the UNet with its adapter off."""

    unet: UNet2DConditionModel
    frozen: UNet2DConditionModel | None
    noise_scheduler: DDPMScheduler

    def trainable(self) -> dict[str, torch.nn.Parameter]:
        """The weights that training moves, by name."""
        return {name: weight for name, weight in self.unet.named_parameters() if weight.requires_grad}

    @contextmanager
    def reference(self) -> Iterator[UNet2DConditionModel]:
        """The reference model, without gradients."""
        with torch.no_grad():
            if self.frozen is not None:
                yield self.frozen
                return
            self.unet.disable_adapters()
            try:
                yield self.unet
            finally:
                self.unet.enable_adapters()


def check_base(base: str, revision: str | None = None) -> None:
    """Refuse a base that cannot be trained, before any of its weights are read.

    Raises:
        BadRequest: it is no pipeline with a UNet, or its prediction type has no objective here.
    """
    try:
        config = DDPMScheduler.load_config(base, subfolder="scheduler", revision=revision)
        UNet2DConditionModel.load_config(base, subfolder="unet", revision=revision)
    except (OSError, ValueError) as error:
        raise refused("base", f"{base!r} is no Stable Diffusion pipeline that can be read: {error}") from None
    kind = config.get("prediction_type", "epsilon")
    if kind not in PREDICTION_TYPES:
        known = " or ".join(PREDICTION_TYPES)
        raise refused("base", f"{base!r} predicts {kind!r}; train a base that predicts {known}")


def load(
    base: str, tuning: Tuning, seed: int, revision: str | None = None, dtype: torch.dtype = torch.float32
) -> Policy:
    """The policy over a pipeline folder or Hub id; new adapters, drawn from `seed`, change nothing yet.

    `dtype` is that of weights which are not trained; those that are stay in float32.

    Raises:
        BadRequest: the base cannot be trained, or its UNet is not whole.
    """
    check_base(base, revision)
    scheduler = DDPMScheduler.from_pretrained(base, subfolder="scheduler", revision=revision)
    if isinstance(tuning, Full):
        unet = load_whole(UNet2DConditionModel, base, revision, torch.float32, "unet").train()
        frozen = load_whole(UNet2DConditionModel, base, revision, dtype, "unet")
        return Policy(unet, frozen.requires_grad_(False).eval(), scheduler)
    unet = load_whole(UNet2DConditionModel, base, revision, dtype, "unet").requires_grad_(False)
    torch.manual_seed(seed)
    unet.add_adapter(adapter_config(tuning))
    for weight in unet.parameters():
        if weight.requires_grad:
            weight.data = weight.data.float()
    return Policy(unet.train(), None, scheduler)


def adapter_config(tuning: Lora) -> LoraConfig:
    """Low-rank adapters on the attention's projections; their second factor starts at zero."""
    return LoraConfig(
        r=tuning.rank,
        lora_alpha=tuning.alpha or tuning.rank,
        init_lora_weights="gaussian",
        target_modules=ATTENTION,
    )


def predict(
    unet: torch.nn.Module, noisy_NCHW: torch.Tensor, timesteps_N: torch.Tensor, batch: PairBatch
) -> torch.Tensor:
    """What a UNet predicts for N = 2B noisy images, the chosen ones of `batch` before the rejected ones."""
    added, pooled_BP = None, batch.pooled_embeddings_BP
    chosen_B6, rejected_B6 = batch.chosen_time_ids_B6, batch.rejected_time_ids_B6
    if pooled_BP is not None and chosen_B6 is not None and rejected_B6 is not None:
        added = {"text_embeds": _twice(pooled_BP), "time_ids": torch.cat([chosen_B6, rejected_B6])}
    prompts = _twice(batch.prompt_embeddings_BLD)
    predicted: torch.Tensor = unet(noisy_NCHW, timesteps_N, prompts, added_cond_kwargs=added).sample
    return predicted


def _twice(part: torch.Tensor) -> torch.Tensor:
    return torch.cat([part, part])
