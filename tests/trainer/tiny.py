"""Tiny policies with random weights, and pairs made of noise: enough to see what a training step does."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from diffusers import DDPMScheduler, UNet2DConditionModel

from retouche.contract.jobs import JobId
from retouche.contract.payload import JsonObject
from retouche.contract.runs import Full, Objective, Optimisation, RunSpec, TrainingData, Tuning
from trainer.batches import Draw, PairBatch, digest_of, in_epochs
from trainer.policy import Policy, load

JOB: JobId = "job-0123456789abcdef"
TINY: dict[str, Any] = {
    "sample_size": 4,
    "in_channels": 4,
    "out_channels": 4,
    "block_out_channels": (8, 16),
    "layers_per_block": 1,
    "down_block_types": ("CrossAttnDownBlock2D", "DownBlock2D"),
    "up_block_types": ("UpBlock2D", "CrossAttnUpBlock2D"),
    "cross_attention_dim": 8,
    "attention_head_dim": 2,
    "norm_num_groups": 4,
}
SDXL = TINY | {
    "addition_embed_type": "text_time",
    "addition_time_embed_dim": 4,
    "projection_class_embeddings_input_dim": 6 * 4 + 8,
    "transformer_layers_per_block": 1,
    "use_linear_projection": True,
}


def save_base(folder: Path, config: dict[str, Any] = TINY, prediction_type: str = "epsilon") -> Path:
    """The UNet and scheduler folders of a pipeline, with random weights that are always the same."""
    torch.manual_seed(0)
    UNet2DConditionModel(**config).save_pretrained(folder / "unet")
    DDPMScheduler(prediction_type=prediction_type).save_pretrained(folder / "scheduler")
    return folder


def policy(
    folder: Path, tuning: Tuning, config: dict[str, Any] = TINY, prediction: str = "epsilon"
) -> Policy:
    return load(str(save_base(folder, config, prediction)), tuning, seed=0)


def spec(objective: Objective, tuning: Tuning | None = None, **how: Any) -> RunSpec:
    """A short run with a learning rate at which ten steps change something."""
    chosen = {"steps": 10, "batch_size": 4, "learning_rate": 1e-3, "warmup_steps": 2, "collapse_ratio": 100.0}
    return RunSpec(
        data=TrainingData(job=JOB),
        objective=objective,
        tuning=tuning or Full(),
        optimisation=Optimisation(**(chosen | {"log_every_steps": 1} | how)),
    )


@dataclass(frozen=True)
class NoisePairs:
    """Twelve pairs whose chosen images lie above zero and whose rejected ones lie below."""

    sdxl: bool = False
    count: int = 12

    def __len__(self) -> int:
        return self.count

    def indices(self, positions: range) -> list[int]:
        return in_epochs(self.count, 0, positions)

    def batch(self, draws: Sequence[Draw]) -> PairBatch:
        chosen = torch.stack([_noise(draw.pair, 4, 4, 4) for draw in draws])
        relation = torch.nn.functional.normalize(
            torch.stack([_noise(draw.pair, 6) for draw in draws]), dim=-1
        )
        batch = PairBatch(
            chosen + 0.5,
            chosen.flip(1) - 0.5,
            torch.stack([_noise(100 + draw.pair, 3, 8) for draw in draws]),
            chosen_relation_BE=relation,
            rejected_relation_BE=relation,
        )
        if not self.sdxl:
            return batch
        pooled = torch.stack([_noise(200 + draw.pair, 8) for draw in draws])
        ids = torch.full((len(draws), 6), 32.0)
        return replace(batch, pooled_embeddings_BP=pooled, chosen_time_ids_B6=ids, rejected_time_ids_B6=ids)

    def state(self) -> JsonObject:
        return {}

    def restore(self, state: JsonObject) -> None: ...

    def checkpointed(self, positions: int) -> None: ...

    @property
    def digest(self) -> str:
        return digest_of([str(pair) for pair in range(self.count)])


def _noise(seed: int, *shape: int) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))
