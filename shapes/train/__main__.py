"""`python -m shapes.train all`, or one stage by its name, in the order below.

    autoencoder  text_encoder  competent  base  editor_instruct_pix2pix  reward_clip  reward_second  critic

Each stage writes its folder under shapes/models (the first three, which only the others need, under build/)
and enters its quality in the manifest.
"""

import sys
from collections.abc import Callable
from pathlib import Path

from shapes.train import (
    autoencoder,
    base,
    critic,
    editor,
    editor_quality,
    manifest,
    reading,
    reward_quality,
    rewards,
)
from shapes.train.loop import MODELS, processes, rank

BUILD = Path("build/shapes")
INTERMEDIATE = ("autoencoder", "text_encoder", "competent")
VAE, TEXT, COMPETENT = (BUILD / name for name in INTERMEDIATE)

RewardTraining = Callable[[Path, Path, int], dict[str, float]]
SEEDS = {
    "autoencoder": 0,
    "text_encoder": 0,
    "competent": 1,
    "base": 2,
    "editor_instruct_pix2pix": 3,
    "reward_clip": 0,
    "reward_second": 1,
    "critic": 0,
}


def _editor(folder: Path, seed: int) -> dict[str, float]:
    editor.train(COMPETENT, MODELS / "base", folder, seed)
    return editor_quality.evaluate_folders(MODELS / "base", folder) if rank() == 0 else {}


def _reward(train: RewardTraining, folder: Path, seed: int) -> dict[str, float]:
    quality = train(folder, VAE, seed)
    edits = editor_quality.edited_samples(MODELS / "base", MODELS / "editor_instruct_pix2pix")
    return quality | reward_quality.edit_accuracy(folder, edits)


STAGES: dict[str, Callable[[Path, int], dict[str, float]]] = {
    "autoencoder": lambda folder, seed: autoencoder.train(folder, seed),
    "text_encoder": lambda folder, seed: reading.train(folder, seed),
    "competent": lambda folder, seed: base.train(VAE, TEXT, folder, seed),
    "base": lambda folder, seed: base.misalign(COMPETENT, folder, seed),
    "editor_instruct_pix2pix": _editor,
    "reward_clip": lambda folder, seed: _reward(rewards.train_contrastive, folder, seed),
    "reward_second": lambda folder, seed: _reward(rewards.train_preference, folder, seed),
    "critic": lambda folder, seed: critic.train(folder, MODELS / "base", seed),
}


def _command(name: str) -> str:
    """What was typed: the processes' number belongs to it, for each draws numbers of its own."""
    launcher = f"torchrun --nproc-per-node {processes()}" if processes() > 1 else "python"
    return f"{launcher} -m shapes.train {name}"


def main(names: list[str]) -> None:
    """Train the named stages, or all."""
    unknown = [name for name in names if name not in (*STAGES, "all")]
    if not names or unknown:
        raise SystemExit(
            f"usage: python -m shapes.train all | {' | '.join(STAGES)}" + f"; not {unknown}" * bool(unknown)
        )
    for name in STAGES if "all" in names else names:
        folder = (BUILD if name in INTERMEDIATE else MODELS) / name
        quality = STAGES[name](folder, SEEDS[name])
        if rank() == 0:
            print(name, quality, flush=True)
        if rank() == 0 and name not in INTERMEDIATE:
            manifest.record(name, _command(name), SEEDS[name], quality)


if __name__ == "__main__":
    main(sys.argv[1:])
