"""`python -m shapes.train all`, or one stage by its name, in the order below.

    autoencoder  text_encoder  competent  base  editor_instruct_pix2pix  editor_controlnet_ip2p
    reward_clip  reward_second  critic

Each stage makes its folder under shapes/models (the first three, which only the others need and which are
not shipped, under build/) and enters its quality in the manifest; one that ends before it is done leaves what
was there. Under `torchrun --nproc-per-node N` the stages that can share their work do so, and what they make
depends on N. With `--rehearse DIR` the same is done into DIR at a small share of its length: it shows that
the recipe runs, not what it reaches.
"""

import shutil
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated

import typer

from shapes.train import (
    autoencoder,
    base,
    controlnet,
    critic,
    editor,
    editor_quality,
    manifest,
    reading,
    reward_edits,
    reward_looking,
    reward_quality,
    rewards,
)
from shapes.train.loop import MODELS, alone, join, processes, rank, rehearsal, wait_for_all

INTERMEDIATE = ("autoencoder", "text_encoder", "competent")
SHARED = ("competent", "base", "editor_instruct_pix2pix", "editor_controlnet_ip2p", "critic")  # by processes
REHEARSED_SHARE = 0.0002
NEEDED = {  # what a stage reads of others
    "competent": ("autoencoder", "text_encoder"),
    "base": ("competent",),
    "editor_instruct_pix2pix": ("competent", "base"),
    "editor_controlnet_ip2p": ("base", "editor_instruct_pix2pix"),
    "reward_clip": ("base", "editor_instruct_pix2pix", "editor_controlnet_ip2p"),
    "reward_second": ("base", "editor_instruct_pix2pix", "editor_controlnet_ip2p"),
    "critic": ("base",),
}


@dataclass(frozen=True)
class Folders:
    """Where the recipe reads and writes; what is `under_way` takes its place once it is measured."""

    models: Path = MODELS
    build: Path = Path("build/shapes")
    under_way: str | None = None

    def of(self, name: str) -> Path:
        if name == self.under_way:
            return self.build / "under-way" / name
        return (self.build if name in INTERMEDIATE else self.models) / name

    @property
    def shipped_autoencoder(self) -> Path:
        """That of the base, which is the stage's own: who has no build/ has it."""
        return self.of("base") / "vae"


SEEDS = {
    "autoencoder": 0,
    "text_encoder": 0,
    "competent": 1,
    "base": 2,
    "editor_instruct_pix2pix": 3,
    "editor_controlnet_ip2p": 4,
    "reward_clip": 0,
    "reward_second": 1,
    "critic": 0,
}
NOTES = {  # what the figures in the manifest do not say themselves
    "reward_clip": "pair accuracy on held-out renders",
    "reward_second": "pair accuracy on held-out renders; direction and order are relations: chance",
    "critic": "LOOKING_WEIGHT was chosen among .35, .5, .6 and .65 on an earlier training's figures "
    "on these prompts",
}


def _competent(at: Folders, seed: int) -> dict[str, float]:
    return base.train(at.of("autoencoder"), at.of("text_encoder"), at.of("competent"), seed)


def _instruct_pix2pix(at: Folders, seed: int) -> dict[str, float]:
    folder = at.of("editor_instruct_pix2pix")
    editor.train(at.of("competent"), at.of("base"), folder, seed)
    return _editor_quality(at, editor.opened(folder)) if rank() == 0 else {}


def _controlnet_ip2p(at: Folders, seed: int) -> dict[str, float]:
    folder = at.of("editor_controlnet_ip2p")
    controlnet.train(at.of("base"), at.of("editor_instruct_pix2pix"), folder, seed)
    return _editor_quality(at, controlnet.opened(at.of("base"), folder)) if rank() == 0 else {}


def _editor_quality(at: Folders, edit: editor.Editing) -> dict[str, float]:
    return editor_quality.evaluate(base.load(at.of("base")), edit)


def _contrastive(at: Folders, seed: int) -> dict[str, float]:
    folder = at.of("reward_clip")
    rewards.train_contrastive(folder, at.shipped_autoencoder, seed)
    return _reward_quality(at, folder)


def _preference(at: Folders, seed: int) -> dict[str, float]:
    folder = at.of("reward_second")
    rewards.train_preference(folder, at.shipped_autoencoder, seed)
    edits = reward_edits.make_edits(base.load(at.of("base")), [*_editors(at).values()], seed)
    reward_looking.train(folder, at.shipped_autoencoder, edits, seed)
    return _reward_quality(at, folder)


def _reward_quality(at: Folders, folder: Path) -> dict[str, float]:
    quality = reward_quality.pair_accuracy(folder)
    drawing = base.load(at.of("base"))
    for name, edit in _editors(at).items():
        found = reward_quality.edit_accuracy(folder, editor_quality.edited_samples(drawing, edit))
        quality |= {f"{name}_{key}": value for key, value in found.items()}
    return quality


def _editors(at: Folders) -> dict[str, editor.Editing]:
    return {
        "instruct_pix2pix": editor.opened(at.of("editor_instruct_pix2pix")),
        "controlnet_ip2p": controlnet.opened(at.of("base"), at.of("editor_controlnet_ip2p")),
    }


STAGES: dict[str, Callable[[Folders, int], dict[str, float]]] = {
    "autoencoder": lambda at, seed: autoencoder.train(at.of("autoencoder"), seed),
    "text_encoder": lambda at, seed: reading.train(at.of("text_encoder"), seed),
    "competent": _competent,
    "base": lambda at, seed: base.misalign(at.of("competent"), at.of("base"), seed),
    "editor_instruct_pix2pix": _instruct_pix2pix,
    "editor_controlnet_ip2p": _controlnet_ip2p,
    "reward_clip": _contrastive,
    "reward_second": _preference,
    "critic": lambda at, seed: critic.train(at.of("critic"), at.of("base"), seed),
}


def main(
    names: Annotated[list[str], typer.Argument(help=f"all, or some of: {' '.join(STAGES)}")],
    rehearse: Annotated[Path | None, typer.Option(help="a folder: do a small share, all of it there")] = None,
) -> None:
    """Train the named stages, or all."""
    unknown = [name for name in names if name not in (*STAGES, "all")]
    if unknown:
        raise typer.BadParameter(f"no stage is called {unknown[0]}; there are all, {', '.join(STAGES)}")
    at = Folders() if rehearse is None else Folders(rehearse / "models", rehearse / "build")
    planned = [name for name in STAGES if name in names or "all" in names]
    _require(planned, at)
    join()
    with nullcontext() if rehearse is None else rehearsal(REHEARSED_SHARE):
        for name in planned:
            if name in SHARED:
                run_stage(name, at, rehearse)
            elif rank() == 0:
                with alone():
                    run_stage(name, at, rehearse)
            wait_for_all()


def _require(planned: list[str], at: Folders) -> None:
    """BadParameter if a stage would read what is not there, before any has begun."""
    for name in planned:
        for needed in NEEDED.get(name, ()):
            if needed not in planned and not at.of(needed).is_dir():
                raise typer.BadParameter(
                    f"{name} needs {at.of(needed)}, which is not there; "
                    f"have it trained as well: python -m shapes.train {needed} {name}"
                )


def run_stage(name: str, at: Folders, rehearse: Path | None) -> None:
    """Train and measure; then, and only then, put what was made in its place and enter it in the manifest."""
    making = replace(at, under_way=name)
    if rank() == 0:
        shutil.rmtree(making.of(name), ignore_errors=True)
    quality = STAGES[name](making, SEEDS[name])
    if rank() > 0:
        return
    print(name, quality, flush=True)
    _put_in_place(making.of(name), at.of(name))
    if name not in INTERMEDIATE:
        manifest.record(at.of(name), _command(name, rehearse), SEEDS[name], quality, NOTES.get(name, ""))


def _put_in_place(made: Path, place: Path) -> None:
    """In place of what is there, if anything is: two renames, as a folder cannot be put over another."""
    former = made.with_name("former")
    shutil.rmtree(former, ignore_errors=True)
    place.parent.mkdir(parents=True, exist_ok=True)
    if place.exists():
        place.rename(former)
    made.rename(place)
    shutil.rmtree(former, ignore_errors=True)


def _command(name: str, rehearse: Path | None) -> str:
    """What makes this stage: the number of those that share it belongs to it, for each draws its own."""
    launcher = f"torchrun --nproc-per-node {processes()}" if processes() > 1 else "python"
    return f"{launcher} -m shapes.train {name}" + (f" --rehearse {rehearse}" if rehearse else "")


if __name__ == "__main__":
    typer.run(main)
