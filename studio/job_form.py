"""The form of a curation job: every setting with a default and what it does."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import gradio as gr

from retouche.client import AsyncRetouche
from retouche.contract.jobs import CurationSpec
from retouche.contract.profiles import DeployedProfile
from retouche.errors import RetoucheError
from retouche.intake.rows import Skipped
from studio import job_start
from studio.fields import given, number_or_empty, whole
from studio.gateways import Gateways

_AGREEMENTS = [
    ("all: every reward model must prefer the same image", "all"),
    ("majority: more than half of them must", "majority"),
    ("mean: their differences, each over its margin, are averaged", "mean"),
]
_LEFT_EMPTY = "<p class='note'>What is left empty takes the profile’s value, shown in grey.</p>"


@dataclass(frozen=True)
class Form:
    """The form's components, in the order in which `specification` takes their values."""

    start: job_start.Start
    profile: gr.Dropdown
    settings: dict[str, Any]
    rewards: gr.CheckboxGroup
    margin: gr.Textbox
    generation: dict[str, Any]
    editing: dict[str, Any]

    @property
    def inputs(self) -> list[Any]:
        parts = (self.settings, self.generation, self.editing)
        fields = [field for part in parts for field in part.values()]
        return [self.profile, self.rewards, self.margin, *fields, *self.start.inputs]

    async def specification(self, client: AsyncRetouche, skipped: Skipped, values: list[Any]) -> CurationSpec:
        """What the visitor asks for; files are uploaded, and rows of no use told in `skipped`.

        Raises:
            BadPrompts: as job_start.read says.
            ValidationError: a setting is out of its range.
        """
        profile, rewards, margin, *rest = values
        named = iter(rest)
        wanted = given({name: next(named) for name in self.settings})
        wanted["generation"] = given({name: next(named) for name in self.generation})
        wanted["editing"] = given({name: next(named) for name in self.editing})
        wanted |= given({"profile": profile})
        if rewards:
            margins = (await _deployed(client, profile)).rewards
            wanted["rewards"] = [
                {"name": name, "margin": margin or margins.get(name, 0.0)} for name in rewards
            ]
        CurationSpec.model_validate(wanted | {"prompts": ["checked before anything is uploaded"]})
        return CurationSpec.model_validate(wanted | await job_start.read(client, skipped, *named))

    def naming(self, gateways: Gateways) -> tuple[Callable[..., Any], list[Any]]:
        """What fills in the deployed profile, its reward models and its values; and the components it fills.

        Takes the visitor's key, and the profile and the reward models that are chosen.
        """
        shown = [
            (part, name, field)
            for part in ("generation", "editing")
            for name, field in getattr(self, part).items()
        ]

        async def name(key: str, profile: str | None, chosen: list[str]) -> list[Any]:
            try:
                client = await gateways.of(key)
                profiles = [found.name for found in await client.profiles()]
                one = await _deployed(client, profile)
            except RetoucheError:
                return [gr.skip()] * (2 + len(shown))
            labels = [(f"{name} (margin {margin:g})", name) for name, margin in one.rewards.items()]
            kept = [name for name in chosen if name in one.rewards]
            values = [getattr(getattr(one, part), name) for part, name, _ in shown]
            shades = [
                gr.Textbox(placeholder=f"{value:g}") if value not in (None, "") else gr.skip()
                for value in values
            ]
            return [gr.Dropdown(profiles, value=one.name), gr.CheckboxGroup(labels, value=kept), *shades]

        return name, [self.profile, self.rewards, *(field for *_, field in shown)]


async def _deployed(client: AsyncRetouche, profile: str | None) -> DeployedProfile:
    """The profile of that name, or the first one."""
    found = await client.profiles()
    return next((one for one in found if one.name == profile), found[0])


def build() -> Form:
    """The form, with its settings folded away below the prompts."""
    start = job_start.build()
    with gr.Row():
        profile = gr.Dropdown(
            [],
            label="Profile",
            info="Which models: those that are deployed here.",
            elem_id="profile",
        )
        seed = gr.Number(label="Seed", value=0, precision=0, minimum=0, info="Another seed, other images.")
    images = whole("Images per prompt", 1, 1, 16, "How many images are drawn of each prompt.")
    with gr.Accordion("How pairs are made", open=False):
        settings = _pairing()
        rewards = gr.CheckboxGroup(
            [], label="Reward models", info="None chosen: every one of the profile.", elem_id="rewards"
        )
        margin = number_or_empty(
            "Margin of those chosen",
            "0 or more: a smaller difference of raw scores is a tie. Empty: as the profile has it.",
        )
    with gr.Accordion("How images are drawn", open=False):
        generation = _generation()
    with gr.Accordion("How they are edited", open=False):
        editing = _editing()
    settings |= {"images_per_prompt": images, "seed": seed}
    return Form(start, profile, settings, rewards, margin, generation, editing)


def _pairing() -> dict[str, Any]:
    instructions = whole("Instructions per image", 3, 1, 8, "At most so many corrections are tried.")
    edits = whole("Edits per instruction", 1, 1, 8, "Each is drawn from another seed.")
    pairs = whole("Pairs per image", 1, 1, 64, "The clearest of an image's edits are kept.")
    agreement = gr.Radio(_AGREEMENTS, value="all", label="When an edit counts as better or worse")
    relabel = gr.Checkbox(
        True, label="Keep edits that made it worse", info="as pairs with the original as the better image"
    )
    style = gr.Textbox(
        label="One style for every image",
        placeholder="make it a pencil sketch",
        info="Style Alignment: this instruction takes the place of critique and instructions, and its edits "
        "are the chosen images whatever the reward models say. Empty: each image is corrected.",
        elem_id="style",
    )
    return {
        "instructions_per_image": instructions,
        "edits_per_instruction": edits,
        "pairs_per_image": pairs,
        "agreement": agreement,
        "relabel": relabel,
        "style": style,
    }


def _generation() -> dict[str, Any]:
    gr.HTML(_LEFT_EMPTY)
    return {
        "negative_prompt": gr.Textbox(label="Negative prompt", info="What should not be seen."),
        "width": number_or_empty("Width in pixels", "A multiple of 8, 16 to 2048."),
        "height": number_or_empty("Height in pixels", "A multiple of 8, 16 to 2048."),
        "num_inference_steps": number_or_empty("Steps", "1 to 150: more is slower and finer."),
        "guidance_scale": number_or_empty("Guidance", "0 to 50: how closely the prompt is followed."),
        "adapter": _adapter("draw"),
    }


def _editing() -> dict[str, Any]:
    gr.HTML(_LEFT_EMPTY)
    return {
        "num_inference_steps": number_or_empty("Steps", "1 to 150."),
        "guidance_scale": number_or_empty("Guidance", "0 to 50: how closely the instruction is followed."),
        "image_guidance_scale": number_or_empty("Image guidance", "0 to 50: how closely the image is kept."),
        "strength": number_or_empty("Strength", "Above 0, at most 1: how much may change."),
        "controlnet_conditioning_scale": number_or_empty("ControlNet", "0 to 2: how much it weighs."),
        "adapter": _adapter("edit"),
    }


def _adapter(verb: str) -> gr.Textbox:
    return gr.Textbox(label="Trained run", placeholder="run-…", info=f"Whose LoRA is to {verb}. Empty: none.")
