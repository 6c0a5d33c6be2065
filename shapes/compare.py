"""Which method makes the base better, by the exact checker: `python -m shapes.compare`.

Pairs are curated on training prompts by the running system; every method then trains on equally many of them,
from several seeds, and draws all held-out prompts from the same seeds as the base. Best-of-n is the baseline
of both papers: pairs of the best and the worst of n generations by the reward models, without any editing.
Shuffled labels show what training alone does.
"""

import asyncio
import json
import os
import random
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from multiprocessing import get_context
from pathlib import Path
from statistics import fmean

import torch
import typer
from diffusers import StableDiffusionPipeline
from rich.console import Console
from rich.table import Table

from retouche.client import AsyncRetouche, Retouche
from retouche.contract.jobs import CurationSpec
from retouche.contract.payload import LOCAL
from retouche.contract.runs import (
    DiffusionDpo,
    DiffusionRpo,
    Full,
    Objective,
    Optimisation,
    RichDpo,
    RunSpec,
    Sft,
    TrainingData,
)
from retouche.contract.stages import GenerateRequest, RewardRequest
from retouche.identity import identify
from retouche.local.system import running
from retouche.store import ObjectStore, run
from shapes.check import check
from shapes.curated import curated
from shapes.faults import is_fault_prone
from shapes.prompts import held_out_prompts, parse, train_prompts
from shapes.train.base import sample
from shapes.train.loop import MODELS
from trainer.batches import digest_of
from trainer.encode import Encoding, encode_pairs
from trainer.encoded import EncodedPairs
from trainer.encoders import Encoders, RelationModel
from trainer.loop import train
from trainer.pairs import TrainingPair
from trainer.policy import load
from trainer.sources.dataset import finished_pairs

BASE, RELATIONS = str(MODELS / "base"), str(MODELS / "reward_clip")
BEST_OF = 4
AT_ONCE = 8  # prompts
SAMPLING_SEED = 11_000
RESAMPLES = 2000
_JOB = "job-" + "0" * 16
_ANCHOR = 200.0
_console = Console(stderr=True)

METHODS: dict[str, tuple[str, Objective]] = {  # name: which pairs, which objective
    "diffusion_dpo": ("rich", DiffusionDpo(beta=1000, anchor_weight=_ANCHOR)),
    "rich_dpo": ("rich", RichDpo(beta=1000, strength=0.5, anchor_weight=_ANCHOR)),
    "diffusion_rpo": ("rich", DiffusionRpo(beta=1000, temperature=0.02, anchor_weight=_ANCHOR)),
    "sft": ("rich", Sft()),
    "diffusion_dpo, best of n": ("best_of_n", DiffusionDpo(beta=1000, anchor_weight=_ANCHOR)),
    "diffusion_dpo, shuffled": ("shuffled", DiffusionDpo(beta=1000, anchor_weight=_ANCHOR)),
}
OPTIMISATION = Optimisation(
    steps=100,
    batch_size=32,
    learning_rate=3e-5,
    warmup_steps=10,
    checkpoint_every_steps=1000,
    log_every_steps=25,
)


@dataclass(frozen=True)
class Trial:
    """One method from one training seed."""

    method: str
    seed: int
    pairs: list[TrainingPair]
    store: str
    folder: str


def main(
    data: Path = Path(".retouche/compare"),
    prompts: int = 500,
    seeds: int = 3,
    processes: int = max(1, (os.cpu_count() or 1)),
) -> None:
    """Curate, train, draw, compare; everything that was made stays in `data`."""
    data.mkdir(parents=True, exist_ok=True)
    store = ObjectStore(str(data / "store"))
    sets = _pair_sets(data, store, prompts)
    count = min(len(pairs) for pairs in sets.values())
    _console.print(f"{count} pairs for every method ({ {name: len(pairs) for name, pairs in sets.items()} })")
    _encode(store, sets)
    trials = [
        Trial(method, seed, sets[source][:count], store.url, str(data / "trials"))
        for method, (source, _) in METHODS.items()
        for seed in range(seeds)
    ]
    scores: dict[str, list[list[float]]] = {}
    with ProcessPoolExecutor(processes, mp_context=get_context("spawn"), initializer=_one_thread) as pool:
        base = pool.submit(_base_scores)
        for trial, found in zip(trials, pool.map(_scores, trials), strict=True):
            scores.setdefault(trial.method, []).append(found)
            _console.print(f"{trial.method}, seed {trial.seed}: {fmean(found):.4f}", highlight=False)
        figures = _figures(base.result(), scores)
    _show(figures)
    print(json.dumps({"pairs": count, "prompts": len(held_out_prompts()), "seeds": seeds, **figures}))


def _pair_sets(data: Path, store: ObjectStore, prompts: int) -> dict[str, list[TrainingPair]]:
    """Rich pairs, best-of-n pairs and rich pairs with shuffled labels; made once by the same models."""
    chosen = random.Random(0).sample(train_prompts(), prompts)
    with running(data) as system, Retouche(system.url) as client:
        job = curated(client, CurationSpec(prompts=tuple(chosen)))
        kept = data / f"pairs-{job.id}.json"
        if kept.exists():
            sets = json.loads(kept.read_text())
            return {name: [TrainingPair(**pair) for pair in pairs] for name, pairs in sets.items()}
        rich = run(finished_pairs(store, job.id))
        best = asyncio.run(_best_of_n(system.url, chosen[: 5 * len(rich) // 4]))  # some will not agree
    rng = random.Random(0)
    rng.shuffle(rich)
    rng.shuffle(best)
    flipped = [
        TrainingPair(pair.id, pair.prompt, pair.rejected, pair.chosen) if rng.random() < 0.5 else pair
        for pair in rich
    ]
    sets = {"rich": rich, "best_of_n": best, "shuffled": flipped}
    kept.write_text(json.dumps({name: [asdict(pair) for pair in pairs] for name, pairs in sets.items()}))
    return sets


async def _best_of_n(url: str, prompts: Sequence[str]) -> list[TrainingPair]:
    """The best and the worst of BEST_OF generations, where every reward model says so."""
    slots = asyncio.Semaphore(AT_ONCE)

    async def one(client: AsyncRetouche, prompt: str) -> TrainingPair | None:
        async with slots:
            requests = [GenerateRequest(prompt=prompt, seed=seed) for seed in range(BEST_OF)]
            drawn = await asyncio.gather(*(client.stages.generate(request) for request in requests))
            images = [answer.response.image for answer in drawn]
            answer = await client.stages.reward(RewardRequest(prompt=prompt, images=images))
        scores = answer.response.scores
        totals = [fmean(score.raw for score in found.values()) for found in scores]
        best, worst = totals.index(max(totals)), totals.index(min(totals))
        if not all(scores[best][name].raw > scores[worst][name].raw for name in scores[best]):
            return None
        return TrainingPair(f"best-of-n {prompt}", prompt, images[best], images[worst])

    async with AsyncRetouche(url) as client:
        found = await asyncio.gather(*(one(client, prompt) for prompt in prompts))
    return [pair for pair in found if pair is not None]


def _encode(store: ObjectStore, sets: dict[str, list[TrainingPair]]) -> None:
    for name, pairs in sets.items():
        if name != "shuffled":
            encode_pairs(store, _encoding(), pairs)


def _encoding() -> Encoding:
    return Encoding(Encoders(BASE), RelationModel(RELATIONS))


def _one_thread() -> None:
    torch.set_num_threads(1)


def _spec(trial: Trial) -> RunSpec:
    return RunSpec(
        data=TrainingData(job=_JOB),
        base=BASE,
        objective=METHODS[trial.method][1],
        tuning=Full(),
        optimisation=OPTIMISATION,
        seed=trial.seed,
    )


def name_of(trial: Trial) -> str:
    """A trial's folder, named by all that its scores come from: specification, models, pairs."""
    revisions = [identify(model).revision for model in (BASE, RELATIONS)]
    pairs = digest_of([repr(pair) for pair in trial.pairs]).removeprefix("sha256:")[:12]
    return "-".join([_spec(trial).run_id(LOCAL), *revisions, pairs])


def _scores(trial: Trial) -> list[float]:
    """Train, then the checker's score of every held-out prompt; remembered beside the trial."""
    spec, folder = _spec(trial), Path(trial.folder) / name_of(trial)
    kept = folder / "scores.json"
    if not kept.exists():
        pairs = EncodedPairs(ObjectStore(trial.store), _encoding(), trial.pairs, trial.seed)
        policy = load(BASE, spec.tuning, trial.seed)
        folder.mkdir(parents=True, exist_ok=True)
        with (folder / "metrics.jsonl").open("w") as log:
            train(spec, policy, pairs, folder, lambda metrics: print(metrics.model_dump_json(), file=log))
        pipeline = _pipeline()
        pipeline.unet = policy.unet.eval()
        kept.write_text(json.dumps(_checked(pipeline)))
    found: list[float] = json.loads(kept.read_text())
    return found


def _base_scores() -> list[float]:
    return _checked(_pipeline())


def _pipeline() -> StableDiffusionPipeline:
    pipeline = StableDiffusionPipeline.from_pretrained(BASE, dtype=torch.float32)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def _checked(pipeline: StableDiffusionPipeline) -> list[float]:
    prompts = held_out_prompts()
    pictures = sample(pipeline, prompts, SAMPLING_SEED)
    return [check(picture, prompt).score for picture, prompt in zip(pictures, prompts, strict=True)]


def _figures(base: list[float], scores: dict[str, list[list[float]]]) -> dict[str, object]:
    """Means and differences from the base, over all prompts, those that the faults touch, and the others."""
    prone = [is_fault_prone(parse(prompt)) for prompt in held_out_prompts()]
    kept = {"all": [True] * len(prone), "fault_prone": prone, "others": [not flag for flag in prone]}
    found: dict[str, object] = {
        f"base_{name}": round(fmean(_of(base, flags)), 4) for name, flags in kept.items()
    }
    found["methods"] = {
        method: {
            name: difference(_of(base, flags), [_of(each, flags) for each in trials])
            for name, flags in kept.items()
        }
        for method, trials in scores.items()
    }
    found["scores_by_seed"] = {
        method: [round(fmean(trial), 4) for trial in trials] for method, trials in scores.items()
    }
    return found


def _of(values: list[float], flags: list[bool]) -> list[float]:
    return [value for value, flag in zip(values, flags, strict=True) if flag]


def difference(base: list[float], trials: list[list[float]]) -> dict[str, float]:
    """Tuned minus base with its 95% interval, bootstrapped over training seeds and scenes together.

    The scores are of all scenes from one side and then of the same from the other: what a model makes of a
    scene's two prompts is alike, and they are drawn together.
    """
    rng, scenes = random.Random(0), len(base) // 2
    means = []
    for _ in range(RESAMPLES):
        seeds = rng.choices(trials, k=len(trials))
        drawn = rng.choices(range(scenes), k=scenes)
        places = [*drawn, *(place + scenes for place in drawn)]
        means.append(fmean(fmean(trial[place] - base[place] for place in places) for trial in seeds))
    means.sort()
    cut = RESAMPLES // 40
    value = fmean(fmean(trial) for trial in trials) - fmean(base)
    return {"difference": round(value, 4), "low": round(means[cut], 4), "high": round(means[-cut - 1], 4)}


def _show(figures: dict[str, object]) -> None:
    methods: dict[str, dict[str, dict[str, float]]] = figures["methods"]  # type: ignore[assignment]
    table = Table("method", "all prompts", "fault-prone", "others", title="tuned minus base", box=None)
    for method, found in methods.items():
        cells = [
            f"{part['difference']:+.3f} [{part['low']:+.3f}, {part['high']:+.3f}]" for part in found.values()
        ]
        table.add_row(method, *cells)
    _console.print(table)


if __name__ == "__main__":
    typer.run(main)
