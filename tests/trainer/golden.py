"""`python -m tests.trainer.golden` writes golden.json: ten losses of every objective, tiny fixed weights."""

import json
import tempfile
from pathlib import Path

from retouche.contract.runs import DiffusionDpo, DiffusionRpo, Lora, Objective, RichDpo, RunSpec, Sft
from tests.trainer.tiny import NoisePairs, policy, spec
from trainer.loop import train

FILE = Path(__file__).with_suffix(".json")

OBJECTIVES: dict[str, Objective] = {
    "sft": Sft(),
    "diffusion_dpo": DiffusionDpo(beta=100.0),
    "diffusion_dpo_anchored": DiffusionDpo(beta=100.0, anchor_weight=10.0),
    "diffusion_dpo_hinge": DiffusionDpo(beta=100.0, loss="hinge"),
    "diffusion_dpo_ipo": DiffusionDpo(beta=100.0, loss="ipo"),
    "diffusion_rpo": DiffusionRpo(beta=100.0, temperature=0.5),
    "rich_dpo": RichDpo(beta=100.0, strength=0.8),
}
RUNS: dict[str, RunSpec] = {name: spec(objective) for name, objective in OBJECTIVES.items()} | {
    "diffusion_dpo_lora": spec(DiffusionDpo(beta=100.0), Lora(rank=4))
}


def losses(run: RunSpec) -> list[float]:
    """The loss of each of the run's steps."""
    logged: list[float] = []
    with tempfile.TemporaryDirectory() as folder:
        chosen = policy(Path(folder) / "base", run.tuning)
        train(run, chosen, NoisePairs(), Path(folder), lambda metrics: logged.append(metrics.loss))
    return logged


if __name__ == "__main__":
    FILE.write_text(json.dumps({name: losses(run) for name, run in RUNS.items()}, indent=1) + "\n")
