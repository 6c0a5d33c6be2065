"""The form of a curation job: every setting with a default and what it does."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gradio as gr

from retouche.client import AsyncRetouche
from retouche.contract.jobs import CurationSpec
from retouche.errors import BadPrompts

_AGREEMENTS = [
    ("all: every reward model must prefer the same image", "all"),
    ("majority: more than half of them must", "majority"),
    ("mean: their differences, each over its margin, are averaged", "mean"),
]
_KINDS = (".txt", ".jsonl", ".ndjson", ".csv")


@dataclass(frozen=True)
class Form:
    """The form's components, in the order in which `specification` takes their values."""

    prompts: gr.Textbox
    file: gr.File
    settings: dict[str, Any]
    generation: dict[str, Any]
    editing: dict[str, Any]

    @property
    def inputs(self) -> list[Any]:
        parts = (self.settings, self.generation, self.editing)
        return [self.prompts, self.file, *(field for part in parts for field in part.values())]

    async def specification(self, client: AsyncRetouche, values: list[Any]) -> CurationSpec:
        """What the visitor asks for; a file is uploaded.

        Raises:
            BadPrompts: there are no prompts, both kinds of them, or a file of another kind.
            ValidationError: a setting is out of its range.
        """
        prompts, file, *rest = values
        named = iter(rest)
        settings = {name: next(named) for name in self.settings}
        generation = _given({name: next(named) for name in self.generation})
        editing = _given({name: next(named) for name in self.editing})
        rewards = [{"name": name} for name in settings.pop("rewards") or []]
        source = await _source(client, prompts, file)
        wanted = _given(settings) | {"rewards": rewards, "generation": generation, "editing": editing}
        return CurationSpec.model_validate(source | wanted)


async def _source(client: AsyncRetouche, prompts: str, file: str | None) -> dict[str, Any]:
    lines = [line.strip() for line in (prompts or "").splitlines() if line.strip()]
    if lines and file:
        raise BadPrompts("There are prompts in the box and in a file. Empty the one you do not want.")
    if file:
        if Path(file).suffix.lower() not in _KINDS:
            raise BadPrompts(
                f"{Path(file).name} is not a file of prompts. Upload a text file with one prompt a line, or "
                "a .jsonl or .csv file with a column `prompt`."
            )
        return {"prompt_set": (await client.upload_prompts(Path(file))).prompt_set}
    if not lines:
        raise BadPrompts("There are no prompts yet. Write one a line, or upload a file of them.")
    return {"prompts": lines}


def _given(values: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in values.items() if value is not None and value != ""}


def build() -> Form:
    """The form, with its settings folded away below the prompts."""
    prompts = gr.Textbox(
        label="Prompts, one a line",
        lines=6,
        max_lines=12,
        placeholder="a purple square above a red circle on a gray background",
        elem_id="prompts",
    )
    file = gr.File(
        label="or a file of them: .txt, .jsonl or .csv", type="filepath", height=140, elem_id="file"
    )
    with gr.Row():
        images = _whole("Images per prompt", 1, 1, 16, "How many images are drawn of each prompt.")
        seed = gr.Number(label="Seed", value=0, precision=0, minimum=0, info="Another seed, other images.")
    with gr.Accordion("How pairs are made", open=False):
        settings = _pairing()
    with gr.Accordion("How images are drawn", open=False):
        generation = _generation()
    with gr.Accordion("How they are edited", open=False):
        editing = _editing()
    return Form(prompts, file, {"images_per_prompt": images, "seed": seed} | settings, generation, editing)


def _pairing() -> dict[str, Any]:
    instructions = _whole("Instructions per image", 3, 1, 8, "At most so many corrections are tried.")
    edits = _whole("Edits per instruction", 1, 1, 8, "Each is drawn from another seed.")
    pairs = _whole("Pairs per image", 1, 1, 64, "The clearest of an image's edits are kept.")
    agreement = gr.Radio(_AGREEMENTS, value="all", label="When an edit counts as better or worse")
    relabel = gr.Checkbox(
        True, label="Keep edits that made it worse", info="as pairs with the original as the better image"
    )
    rewards = gr.CheckboxGroup(
        [], label="Reward models", info="None chosen: all of this deployment.", elem_id="rewards"
    )
    profile = gr.Textbox(
        label="Profile",
        placeholder="this deployment's",
        info="Name it to be refused where another one runs, instead of getting other models' pairs.",
    )
    return {
        "instructions_per_image": instructions,
        "edits_per_instruction": edits,
        "pairs_per_image": pairs,
        "agreement": agreement,
        "relabel": relabel,
        "rewards": rewards,
        "profile": profile,
    }


def _generation() -> dict[str, Any]:
    gr.HTML("<p class='note'>What is left empty takes the profile's value.</p>")
    return {
        "negative_prompt": gr.Textbox(label="Negative prompt", info="What should not be seen."),
        "width": _number("Width in pixels", "A multiple of 8, 16 to 2048."),
        "height": _number("Height in pixels", "A multiple of 8, 16 to 2048."),
        "num_inference_steps": _number("Steps", "1 to 150: more is slower and finer."),
        "guidance_scale": _number("Guidance", "0 to 50: how closely the prompt is followed.", None),
    }


def _editing() -> dict[str, Any]:
    gr.HTML("<p class='note'>What is left empty takes the profile's value.</p>")
    return {
        "num_inference_steps": _number("Steps", "1 to 150."),
        "guidance_scale": _number("Guidance", "0 to 50: how closely the instruction is followed.", None),
        "image_guidance_scale": _number("Image guidance", "0 to 50: how closely the image is kept.", None),
        "strength": _number("Strength", "Above 0, at most 1: how much may change.", None),
    }


def _whole(label: str, value: int, low: int, high: int, info: str) -> gr.Slider:
    return gr.Slider(low, high, value=value, step=1, label=label, info=info)


def _number(label: str, info: str, precision: int | None = 0) -> gr.Number:
    return gr.Number(label=label, value=None, precision=precision, info=info)
