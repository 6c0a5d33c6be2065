"""How good the critic is: its findings and instructions against the checker's, word for word."""

import io
import random
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import Image

from retouche.contract.stages import Critique
from retouche.errors import ModelFailure
from services.critique import messages as critique
from services.instruction import messages as instruction
from services.vlm.chat import Asked, Question, read
from services.vlm.local import Model, load
from shapes.check import check
from shapes.faults import shown_for
from shapes.instructions import findings_for, instructions_for
from shapes.prompts import held_out_prompts, parse
from shapes.render import Pixels, render
from shapes.scene import random_layout
from shapes.train.base import load as load_base
from shapes.train.base import sample
from shapes.train.loop import scaled

MAX_ANSWER_TOKENS = 256
SEED = 7000


@dataclass(frozen=True)
class Case:
    """A (64, 64, 3) uint8 picture and the prompt it was made for."""

    picture: Pixels
    prompt: str


def evaluate(folder: Path, base: Path | None = None) -> dict[str, float]:
    """Quality on held-out prompts: on renders, and on samples of the base where there is one."""
    model = load(str(folder), None, "float32", MAX_ANSWER_TOKENS)
    sets = {"renders": faulty_renders()} | ({"samples": _samples(base)} if base else {})
    return {
        f"{name}_{key}": value for name, cases in sets.items() for key, value in judge(model, cases).items()
    }


def judge(model: Model, cases: Sequence[Case]) -> dict[str, float]:
    """Precision and recall of the findings, and the share of found faults with the right instruction."""
    named = found = faults = instructed = wanted = readable = 0
    verdicts = _answers(model, cases, [critique.ask(case.prompt) for case in cases])
    shown = [verdict or Critique(description="unreadable", findings=()) for verdict in verdicts]
    asked = [instruction.ask(case.prompt, verdict) for case, verdict in zip(cases, shown, strict=True)]
    for case, verdict, edits in zip(cases, shown, _answers(model, cases, asked), strict=True):
        scene = parse(case.prompt)
        report = check(case.picture, scene)
        truth = findings_for(report, scene)
        findings = list(dict.fromkeys(verdict.findings))  # said twice, it is one
        right = [finding for finding in findings if finding in truth]
        texts = {edit.text for edit in edits.instructions} if edits else set()
        named, found, faults = named + len(findings), found + len(right), faults + len(truth)
        readable += edits is not None and verdict.description != "unreadable"
        if len(right) == len(truth):  # each expected edit then belongs to a finding
            expected = [edit.text for edit in instructions_for(report, scene)]
            wanted, instructed = wanted + len(expected), instructed + sum(text in texts for text in expected)
    return {
        "precision": found / max(1, named),
        "recall": found / max(1, faults),
        "instructions": instructed / max(1, wanted),
        "readable": readable / len(cases),
    }


def faulty_renders(seed: int = SEED) -> list[Case]:
    """Every held-out prompt with a picture that the base's own faults may have touched."""
    rng = random.Random(seed)
    cases = []
    for prompt in held_out_prompts()[: scaled(394, 4)]:
        scene = shown_for(parse(prompt), rng)
        cases.append(Case(render(scene, random_layout(scene, rng)), prompt))
    return cases


def _samples(base: Path) -> list[Case]:
    prompts = held_out_prompts()[: scaled(394, 4)]
    pictures: list[Any] = sample(load_base(base), prompts, SEED)
    return [Case(picture, prompt) for picture, prompt in zip(pictures, prompts, strict=True)]


def _answers(model: Model, cases: Sequence[Case], questions: Sequence[Question[Any]]) -> list[Any]:
    """The model's answers, None where one is out of its schema."""
    asked = [Asked(question, _png(case.picture)) for question, case in zip(questions, cases, strict=True)]
    texts = [text for begin in range(0, len(asked), 32) for text in model(asked[begin : begin + 32])]
    return [_read(question, text) for question, text in zip(questions, texts, strict=True)]


def _read(question: Question[Any], text: str) -> Any:
    try:
        return read(question.answer, text)
    except ModelFailure:
        return None


def _png(picture: Pixels) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(picture).save(buffer, "PNG")
    return buffer.getvalue()
