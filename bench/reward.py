"""`python -m bench.reward`: the reward service against its models alone, by each way of asking.

`ratios`: images scored a second over HTTP, divided by what static batches of the same model reach in this
process at the best of SIZES. `one request`: one caller, IMAGES images a request, or what there are. `32
callers`: one image a request. All are measured in turn, never at once, in ROUNDS rounds, so that a machine
that slows down slows all. Every request has images of its own: nothing is remembered. Beside the models of
the profile stands a CLIP of ViT-B/32's size with random weights, whose time is spent as that of a model in
use. OMP_NUM_THREADS gives the service and the model alone their cores.
"""

import argparse
import json
import tempfile
from dataclasses import dataclass
from pathlib import Path

import torch
import uvloop
import yaml
from PIL import Image
from rich.console import Console
from rich.table import Table
from transformers import AutoTokenizer, CLIPConfig, CLIPImageProcessorPil, CLIPModel

from bench.processes import keep_memory
from bench.services import CALLERS, PROMPT, Stage, pictures, served, served_seconds, static_seconds
from retouche.contract.stages import RewardRequest
from retouche.images import encode
from retouche.profile import FOLDER, load_profile, located
from retouche.store import ObjectStore, run
from services.reward import model as reward
from services.reward.judged import Judged
from services.reward.reward_model import RewardModel

SIZES = (8, 16, 32, 64)
ROUNDS = 4
IMAGES = 256  # in one request
RANDOM = "vit_b_32_random"
LARGE = 224  # pixels, a side of what ViT-B/32 sees


@dataclass(frozen=True)
class Way:
    """A way to ask: its name, how many ask at once, images a request."""

    name: str
    callers: int
    images: int


WAYS = (Way("one request", 1, IMAGES), Way(f"{CALLERS} callers", CALLERS, 1))


def write_profile(folder: Path) -> str:
    """The shapes profile with RANDOM among its reward models; returns its path."""
    profile = yaml.safe_load((FOLDER / "shapes.yaml").read_text())
    tokens = located(next(iter(profile["rewards"].values()))["model"])
    tokenizer = AutoTokenizer.from_pretrained(tokens)
    config = CLIPConfig(text_config={"vocab_size": len(tokenizer), "eos_token_id": tokenizer.eos_token_id})
    torch.manual_seed(0)
    CLIPModel(config).save_pretrained(folder / RANDOM)
    tokenizer.save_pretrained(folder / RANDOM)
    CLIPImageProcessorPil().save_pretrained(folder / RANDOM)
    profile["rewards"][RANDOM] = {"kind": "clip", "model": str(folder / RANDOM), "max_batch": 16}
    (folder / "profile.yaml").write_text(yaml.safe_dump(profile))
    return str(folder / "profile.yaml")


class Fresh:
    """Pictures that nobody has scored, in a store that the service reads."""

    def __init__(self, store: ObjectStore, count: int, side: int) -> None:
        scaled = [picture.resize((side, side), Image.Resampling.BICUBIC) for picture in pictures(count)]
        self._pictures = iter([(picture, run(store.put_image(encode(picture)))) for picture in scaled])

    def stage(self, model: RewardModel, name: str, way: Way, images: int) -> Stage:
        """Requests for `images` of them, and the same as items for the model alone."""
        taken = [next(self._pictures) for _ in range(images)]
        requests = [
            RewardRequest(
                prompt=PROMPT,
                images=[reference for _, reference in taken[begin : begin + way.images]],
                rewards=[name],
            )
            for begin in range(0, images, way.images)
        ]
        return Stage("/v1/reward", requests, model, [Judged(PROMPT, picture) for picture, _ in taken])


def best_size(name: str, model: RewardModel, fresh: Fresh, images: int, console: Console) -> int:
    """The batch size at which the model alone is quickest."""
    stage = fresh.stage(model, name, WAYS[0], images)
    static_seconds(stage, max(SIZES))  # warm
    rates = {size: images / static_seconds(stage, size) for size in SIZES}
    shown = ", ".join(f"{rate:.1f}/s in batches of {size}" for size, rate in rates.items())
    console.print(f"  alone, at a glance: {shown}", style="dim")
    return max(SIZES, key=rates.__getitem__)


def measure(
    name: str, model: RewardModel, url: str, fresh: Fresh, images: int, console: Console
) -> tuple[int, float, dict[str, float], dict[str, float]]:
    """The best batch size; images a second alone in batches of it; by way: those served, and their ratio."""
    size = best_size(name, model, fresh, min(IMAGES, images), console)
    alone, together = dict.fromkeys(WAYS, 0.0), dict.fromkeys(WAYS, 0.0)
    for way in WAYS:
        uvloop.run(served_seconds(url, fresh.stage(model, name, way, CALLERS), way.callers))
    for _ in range(ROUNDS):
        for way in WAYS:
            stage = fresh.stage(model, name, way, images)
            alone[way] += static_seconds(stage, size)
            together[way] += uvloop.run(served_seconds(url, stage, way.callers))
    rates = {way.name: ROUNDS * images / together[way] for way in WAYS}
    ratios = {way.name: round(alone[way] / together[way], 3) for way in WAYS}
    return size, ROUNDS * images * len(WAYS) / sum(alone.values()), rates, ratios


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=512, help="scored in a round by each way of asking")
    parser.add_argument("--large", type=int, default=64, help="the same for the model of ViT-B/32's size")
    parser.add_argument("--only", nargs="+", help="reward models", metavar="NAME")
    parser.add_argument("--port", type=int, default=8790)
    options = parser.parse_args()
    keep_memory()
    console = Console(stderr=True)
    table = Table("reward model", "batch", "alone, images/s", *(way.name for way in WAYS), "ratios")
    ratios: dict[str, dict[str, float]] = {}
    with tempfile.TemporaryDirectory() as folder:
        path, store = write_profile(Path(folder)), ObjectStore(str(Path(folder) / "store"))
        models = reward.load(load_profile(path).rewards)
        with served("reward", options.port, path, str(Path(folder) / "store")) as url:
            for name in options.only or models:
                images, side = (options.large, LARGE) if name == RANDOM else (options.images, 64)
                fresh = Fresh(store, len(WAYS) * ROUNDS * images + 2 * IMAGES + CALLERS, side)
                console.print(f"{name}: {images} images a round")
                size, alone, rates, ratios[name] = measure(name, models[name], url, fresh, images, console)
                shown = [f"{rate:.1f}" for rate in rates.values()]
                table.add_row(name, str(size), f"{alone:.1f}", *shown, str(list(ratios[name].values())))
    console.print(table)
    print(json.dumps({"benchmark": "reward", "callers": CALLERS, "images": IMAGES, "ratios": ratios}))


if __name__ == "__main__":
    main()
