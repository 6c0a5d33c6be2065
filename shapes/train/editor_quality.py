"""How good the editor is, on the base's own faulty samples of held-out prompts, by the checker.

Four pictures are compared for every case: the sample as it is, the edit, the edit under somebody else's
instruction (an editor that does not read would do as well), and a fresh sample without any edit.
"""

import random

from diffusers import StableDiffusionPipeline

from shapes.check import ATTRIBUTES, Report, check
from shapes.instructions import instructions_for
from shapes.prompts import held_out_prompts, parse
from shapes.render import Pixels
from shapes.train.base import sample
from shapes.train.editor import EditCase, Editing
from shapes.train.loop import scaled

MOST_CASES = 150


def evaluate(base: StableDiffusionPipeline, edit: Editing) -> dict[str, float]:
    """Mean scores, and the shares of edits that are better, the same and worse by the checker."""
    prompts = held_out_prompts()[: scaled(394, 4)]
    pictures = sample(base, prompts, seed=7000)
    faulty = [
        (prompt, picture, report)
        for prompt, picture in zip(prompts, pictures, strict=True)
        if (report := check(picture, prompt)).faults and report.faults[0].aspect in ATTRIBUTES
    ][:MOST_CASES]
    if not faulty:
        return {"cases": 0.0}
    wanted = [prompt for prompt, _, _ in faulty]
    texts = [instructions_for(report, parse(prompt))[0].text for prompt, _, report in faulty]
    cases = [EditCase(picture, text) for (_, picture, _), text in zip(faulty, texts, strict=True)]
    others = [EditCase(case.picture, text) for case, text in zip(cases, _shuffled(texts), strict=True)]
    before = [report for _, _, report in faulty]
    edited = _reports(edit(cases, 8000), wanted)
    misled = _reports(edit(others, 8000), wanted)
    fresh = _reports(sample(base, wanted, seed=9000), wanted)
    quality = {"cases": float(len(faulty)), "source_score": _mean(before), "fresh_seed_score": _mean(fresh)}
    for name, after in (("edited", edited), ("shuffled", misled)):
        quality |= {f"{name}_{key}": value for key, value in _compared(before, after).items()}
    return quality


def edited_samples(
    base: StableDiffusionPipeline, edit: Editing, prompts: int = 394
) -> list[tuple[str, Pixels, Pixels]]:
    """Of the first held-out prompts those with a faulty sample, each with the sample and its edit."""
    asked = held_out_prompts()[: scaled(prompts, 4)]
    faulty = [
        (prompt, picture, report)
        for prompt, picture in zip(asked, sample(base, asked, seed=7000), strict=True)
        if (report := check(picture, prompt)).faults
    ]
    cases = [
        EditCase(picture, instructions_for(report, parse(prompt))[0].text)
        for prompt, picture, report in faulty
    ]
    edited = edit(cases, 8000)
    return [(prompt, picture, after) for (prompt, picture, _), after in zip(faulty, edited, strict=True)]


def _reports(pictures: list[Pixels], prompts: list[str]) -> list[Report]:
    return [check(picture, prompt) for picture, prompt in zip(pictures, prompts, strict=True)]


def _compared(before: list[Report], after: list[Report]) -> dict[str, float]:
    changes = [new.score - old.score for old, new in zip(before, after, strict=True)]
    return {
        "score": _mean(after),
        "better": sum(change > 0 for change in changes) / len(changes),
        "same": sum(change == 0 for change in changes) / len(changes),
        "worse": sum(change < 0 for change in changes) / len(changes),
    }


def _mean(reports: list[Report]) -> float:
    return sum(report.score for report in reports) / len(reports)


def _shuffled(texts: list[str]) -> list[str]:
    """The same instructions, each for another picture and, where it can be, another text."""
    mixed = texts.copy()
    random.Random(0).shuffle(mixed)
    for index, (own, other) in enumerate(zip(texts, mixed, strict=True)):
        if own == other:
            swap = next((k for k, text in enumerate(mixed) if text != own and texts[k] != other), index)
            mixed[index], mixed[swap] = mixed[swap], mixed[index]
    return mixed
