"""The shipped editors through the editing service's own code, under the profiles that name them."""

import random
from statistics import fmean

import numpy as np
import pytest
from PIL import Image

from retouche.contract.stages import EditRequest
from retouche.profile import load_profile
from services.editing import model
from services.editing.editor import Edit
from shapes.check import Report, check
from shapes.faults import shown_for
from shapes.instructions import instructions_for
from shapes.prompts import held_out_prompts, parse
from shapes.render import Pixels, render
from shapes.scene import random_layout

CASES = 12


def faulty_pictures() -> list[tuple[str, Pixels, Report]]:
    """Prompts over pictures with a fault that the base is known to make, the layout at random."""
    rng = random.Random(5)
    found = []
    for prompt in held_out_prompts():
        scene = shown_for(parse(prompt), rng)
        picture = render(scene, random_layout(scene, rng))
        report = check(picture, prompt)
        if report.faults:
            found.append((prompt, picture, report))
    return found[:CASES]


@pytest.mark.parametrize("profile", ["shapes", "shapes_controlnet"])
def test_faulty_pictures_become_better(profile: str) -> None:
    choice = load_profile(profile).editing
    editor = model.load(choice)
    edits = []
    for seed, (prompt, picture, report) in enumerate(faulty_pictures()):
        instruction = instructions_for(report, parse(prompt))[0]
        request = EditRequest(prompt=prompt, image="sha256:" + "0" * 64, instruction=instruction, seed=seed)
        complete = model.resolved(request, choice)
        edits.append(Edit(Image.fromarray(picture), model.text_for(complete, choice), complete))
    gains = [
        check(np.asarray(after), prompt).score - report.score
        for after, (prompt, _, report) in zip(editor(edits), faulty_pictures(), strict=True)
    ]
    assert sum(gain > 0 for gain in gains) >= 0.6 * CASES, gains
    assert fmean(gains) > 0
