"""The words that the small vision-language model learns, and how well the one that ships has learnt them."""

import random

import numpy as np
import pytest
import torch
from PIL import Image

from services.vlm.local import load
from shapes.check import check
from shapes.instructions import describe, findings_for, instructions_for
from shapes.prompts import held_out_scenes, parse, prompts_of
from shapes.render import Pixels, render
from shapes.scene import Item, Placement, Scene, random_layout
from shapes.train.critic import to_patches
from shapes.train.critic_data import random_example, random_wanted
from shapes.train.critic_model import build_image_processor
from shapes.train.critic_quality import MAX_ANSWER_TOKENS, faulty_renders, judge
from shapes.train.loop import MODELS
from shapes.train.manifest import read

RED, BLUE = Item("red", "circle"), Item("blue", "square")
SIDE_BY_SIDE = (Placement(16, 32, 20), Placement(48, 32, 20))


def picture(*items: Item) -> Pixels:
    if len(items) == 1:
        return render(Scene(items, "white"), (Placement(32, 32, 24),))
    return render(Scene(items, "white", "horizontal"), SIDE_BY_SIDE)


@pytest.mark.parametrize(
    ("prompt", "shown", "findings", "texts"),
    [
        ("a red circle on a white background", (RED,), [], []),
        (
            "an orange triangle on a white background",
            (RED,),
            ["the red circle is red, not orange", "the red circle is a circle, not a triangle"],
            ["make the red circle orange", "turn the red circle into a triangle"],
        ),
        (
            "a purple circle left of a blue square on a gray background",
            (RED, BLUE),
            ["the left red circle is red, not purple", "the background is white, not gray"],
            ["make the left red circle purple", "make the background gray"],
        ),
        (
            "a blue square left of a red circle on a white background",
            (RED, BLUE),
            ["the blue square is right of the red circle, not left of it"],
            ["put the blue square left of the red circle"],
        ),
        (
            "a red circle above a blue square on a white background",
            (RED, BLUE),
            ["the red circle is left of the blue square, not above it"],
            ["put the red circle above the blue square"],
        ),
        (
            "a red circle above a blue square on a white background",
            (RED,),
            ["the picture shows one object, not two objects"],
            ["add a blue square"],
        ),
        (
            "a red circle on a white background",
            (RED, BLUE),
            ["the picture shows two objects, not one object"],
            ["remove the extra object"],
        ),
    ],
)
def test_every_kind_of_fault_has_its_words(
    prompt: str, shown: tuple[Item, ...], findings: list[str], texts: list[str]
) -> None:
    report, scene = check(picture(*shown), prompt), parse(prompt)
    assert [f"{found.subject} {found.problem}" for found in findings_for(report, scene)] == findings
    assert [edit.text for edit in instructions_for(report, scene)] == texts


def test_a_description_is_a_prompt_of_what_is_there() -> None:
    seen = check(picture(RED, BLUE), "a red circle on a white background").observation
    assert parse(describe(seen)) == Scene((RED, BLUE), "white", "horizontal")


def test_no_held_out_scene_is_ever_asked_for() -> None:
    rng, held_out = random.Random(0), set(held_out_scenes())
    for scene in held_out_scenes()[:50]:
        seen = check(render(scene, random_layout(scene, rng)), prompts_of(scene)[0]).observation
        assert not any(random_wanted(seen, rng) in held_out for _ in range(20))


def test_every_answer_fits_the_schema_of_its_question() -> None:
    rng = random.Random(1)
    seen = check(picture(RED, BLUE), "a red circle on a white background").observation
    for _ in range(50):
        example = random_example(seen, rng)
        example.question.answer.model_validate_json(example.answer)


def test_training_cuts_pictures_into_patches_as_the_image_processor_does() -> None:
    images = [picture(RED), picture(RED, BLUE)]
    processed = build_image_processor()([Image.fromarray(image) for image in images], return_tensors="pt")
    tensor = torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2).float() / 255
    assert torch.allclose(to_patches(tensor), processed.pixel_values, atol=1e-6)


def test_the_model_that_ships_is_as_good_as_its_manifest_says() -> None:
    model = load(str(MODELS / "critic"), None, "float32", MAX_ANSWER_TOKENS)
    measured, stated = judge(model, faulty_renders()[::6]), read()["critic"]["quality"]
    for name in ("precision", "recall", "instructions"):
        assert measured[name] >= stated[f"renders_{name}"] - 0.12, (name, measured, stated)
