"""Margins are tried on scored edits by the worker's own rule; first they must be right, then productive."""

from dataclasses import replace

from retouche.contract.jobs import EditTrace, ImageTrace
from retouche.contract.stages import EditInstruction
from shapes.check import check
from shapes.demo import EVALUATION_PROMPTS, PROMPTS
from shapes.margins import Edited, Tried, chosen, tried, unreported_prompts
from shapes.prompts import held_out_prompts, parse
from shapes.render import render
from shapes.scene import Item, Placement, Scene

PROMPT = "a red circle on a gray background"
INSTRUCTION = EditInstruction(action="background", target="the background", text="make the background gray")


def edited(difference: float, gain: float) -> Edited:
    """A picture whose background should be gray, and one edit of it that both reward models find better."""
    picture = render(Scene((Item("red", "circle"),), "white"), (Placement(32, 32, 20),))
    edit = EditTrace(
        instruction=INSTRUCTION, seed=0, scores={"a": difference, "b": 2 * difference}, outcome="pair"
    )
    trace = ImageTrace(
        prompt=PROMPT, prompt_index=0, image_index=0, seed=0, scores={"a": 0.0, "b": 0.0}, edits=[edit]
    )
    return Edited(trace, check(picture, PROMPT), [gain])


def test_a_margin_drops_what_the_reward_models_hardly_see() -> None:
    images = [edited(0.3, gain=0.5), edited(0.1, gain=-0.5), edited(-0.3, gain=-0.5)]
    assert tried(images, {"a": 0.0, "b": 0.0}) == Tried({"a": 0.0, "b": 0.0}, 3, 2 / 3, 1.0)
    assert tried(images, {"a": 0.2, "b": 0.0}) == Tried({"a": 0.2, "b": 0.0}, 2, 1.0, 2 / 3)
    assert tried(images, {"a": 0.5, "b": 0.5}).pairs == 0


def test_a_faulty_image_in_which_the_critic_found_nothing_has_no_pair_either() -> None:
    missed = edited(0.3, gain=0.5)
    missed = replace(missed, trace=missed.trace.model_copy(update={"scores": {}, "edits": []}), gains=[])
    assert tried([edited(0.3, gain=0.5), missed], {"a": 0.0, "b": 0.0}).share == 0.5


def test_margins_are_chosen_on_scenes_that_the_demo_does_not_report_on() -> None:
    demo = held_out_prompts()[: PROMPTS + EVALUATION_PROMPTS]
    assert unreported_prompts()
    assert not {parse(prompt) for prompt in unreported_prompts()} & {parse(prompt) for prompt in demo}


def test_the_most_productive_of_the_right_ones_is_chosen() -> None:
    low, middle, high = Tried({}, 9, 0.90, 0.9), Tried({}, 7, 0.96, 0.7), Tried({}, 2, 1.0, 0.2)
    assert chosen([low, middle, high]) is middle
    assert chosen([low]) is low
