"""The miniature world: what a prompt means, what a picture shows, and that the checker is right about it."""

import random
from dataclasses import replace

import numpy as np
import pytest
from scipy import ndimage

from shapes.check import Fault, check
from shapes.faults import is_fault_prone, shown_for
from shapes.prompts import (
    NotOfThisWorld,
    all_scenes,
    held_out_prompts,
    held_out_scenes,
    parse,
    prompts_of,
    train_prompts,
)
from shapes.render import Pixels, render
from shapes.scene import Item, Scene, random_layout

RED_CIRCLE, BLUE_SQUARE = Item("red", "circle"), Item("blue", "square")
SCENE = Scene((RED_CIRCLE, BLUE_SQUARE), "gray", "horizontal")


def drawn(scene: Scene, seed: int = 0) -> Pixels:
    return render(scene, random_layout(scene, random.Random(seed)))


def blurred_and_noisy(picture: Pixels, seed: int) -> Pixels:
    noise = np.random.default_rng(seed).normal(0, 8, picture.shape)
    soft = ndimage.gaussian_filter(picture.astype(np.float64), (0.7, 0.7, 0))
    return np.clip(soft + noise, 0, 255).astype(np.uint8)


def test_a_scene_has_a_prompt_from_either_side() -> None:
    assert prompts_of(SCENE) == (
        "a red circle left of a blue square on a gray background",
        "a blue square right of a red circle on a gray background",
    )


def test_every_prompt_means_its_scene() -> None:
    assert all(parse(prompt) == scene for scene in all_scenes() for prompt in prompts_of(scene))


def test_other_texts_are_refused() -> None:
    with pytest.raises(NotOfThisWorld, match="a cat"):
        parse("a cat on a mat")


def test_no_paraphrase_of_a_held_out_prompt_is_trained_on() -> None:
    assert len(held_out_prompts()) == 394
    held_out = {parse(prompt) for prompt in held_out_prompts()}
    assert held_out == set(held_out_scenes())
    assert not held_out & {parse(prompt) for prompt in train_prompts()}


def test_the_checker_is_right_about_ten_thousand_pictures() -> None:
    rng = random.Random(1)
    for _ in range(10_000):
        scene = rng.choice(all_scenes())
        report = check(render(scene, random_layout(scene, rng)), scene)
        assert report.perfect, (scene, report.faults)
        assert report.score == 1.0


def test_blur_and_noise_hardly_mislead_the_checker() -> None:
    rng, count = random.Random(2), 1000
    scenes = [rng.choice(all_scenes()) for _ in range(count)]
    pictures = [blurred_and_noisy(drawn(scene, seed), seed) for seed, scene in enumerate(scenes)]
    right = sum(check(picture, scene).perfect for picture, scene in zip(pictures, scenes, strict=True))
    assert right >= 0.99 * count


@pytest.mark.parametrize(
    ("shown", "faults"),
    [
        (Scene((Item("green", "circle"), BLUE_SQUARE), "gray", "horizontal"), [("color", "red", "green", 0)]),
        (
            Scene((RED_CIRCLE, Item("blue", "circle")), "gray", "horizontal"),
            [("shape", "square", "circle", 1)],
        ),
        (Scene((RED_CIRCLE, BLUE_SQUARE), "white", "horizontal"), [("background", "gray", "white", None)]),
        (
            Scene((BLUE_SQUARE, RED_CIRCLE), "gray", "horizontal"),
            [("relation", "horizontal", "horizontal", None)],
        ),
        (
            Scene((RED_CIRCLE, BLUE_SQUARE), "gray", "vertical"),
            [("relation", "horizontal", "vertical", None)],
        ),
        (Scene((RED_CIRCLE,), "gray"), [("count", "2", "1", None)]),
    ],
)
def test_faults_are_the_corrections_that_are_needed(
    shown: Scene, faults: list[tuple[str, str, str, int | None]]
) -> None:
    report = check(drawn(shown), prompts_of(SCENE)[0])
    found = [(fault.aspect, fault.wanted, fault.seen, fault.position) for fault in report.faults]
    assert found == faults
    assert report.score < 1


def test_an_attribute_is_what_one_object_or_the_background_is_like() -> None:
    """A wrong order or number of objects is no attribute."""
    picture = drawn(SCENE)
    assert check(picture, replace(SCENE, background="white")).wrong_attribute
    assert check(picture, replace(SCENE, items=(Item("red", "square"), BLUE_SQUARE))).wrong_attribute
    assert not check(picture, replace(SCENE, axis="vertical")).wrong_attribute
    assert not check(picture, Scene((RED_CIRCLE,), "gray")).wrong_attribute


def test_a_relation_holds_only_between_objects_that_are_there() -> None:
    report = check(drawn(Scene((Item("green", "circle"), BLUE_SQUARE), "gray", "horizontal")), SCENE)
    assert [clause.holds for clause in report.clauses] == [False, True, False, True]


def test_nothing_at_all_is_a_picture_too() -> None:
    empty = np.full((64, 64, 3), 128, np.uint8)
    report = check(empty, SCENE)
    assert report.faults == (Fault("count", "2", "0"),)
    assert report.score == 0.25


def test_the_base_is_taught_wrong_only_where_a_scene_is_fault_prone() -> None:
    rng = random.Random(3)
    for scene in all_scenes():
        if not is_fault_prone(scene):
            assert shown_for(scene, rng) == scene
    purple = Scene((Item("purple", "triangle"),), "white")
    shown = [shown_for(purple, rng).items[0].color for _ in range(1000)]
    assert 700 < shown.count("blue") < 800
