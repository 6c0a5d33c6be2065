"""The five stages of Rich Preference Optimization (arXiv 2503.11720), one request and one response each."""

from typing import Annotated, Literal

from pydantic import Field, StringConstraints

from retouche.contract.payload import (
    MAX_SEED,
    Frozen,
    ImageInput,
    ImageRef,
    ModelIdentity,
    Payload,
    Prompt,
    RunId,
)

MOST_COMPARED = 20_000  # images of a set
MOST_SCORED = 256  # images in a request; a job asks for one and all its edits, 65 at most
STAGES = ("generation", "critique", "instruction", "editing", "reward")

Aspect = Literal["color", "shape", "object", "count", "relation", "background", "style", "text", "quality"]
Action = Literal["recolor", "reshape", "replace", "add", "remove", "move", "background", "restyle", "refine"]
Adapter = Annotated[
    RunId | None, Field(description="the LoRA of this finished training run, on top of the profile's model")
]
Seed = Annotated[int, Field(ge=0, le=MAX_SEED)]
Side = Annotated[int, Field(ge=16, le=2048, multiple_of=8, description="pixels")]
InferenceSteps = Annotated[int, Field(ge=1, le=150)]
GuidanceScale = Annotated[float, Field(ge=0, le=50)]
Strength = Annotated[float, Field(gt=0, le=1)]
ConditioningScale = Annotated[float, Field(ge=0, le=2)]
ShortText = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=300)]
RewardName = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9_]{0,39}$")]


class GenerateRequest(Payload):
    """One image for one prompt. What is left out takes the profile's value."""

    prompt: Prompt
    seed: Seed
    adapter: Adapter = None
    negative_prompt: Annotated[str, StringConstraints(max_length=2_000)] = ""
    width: Side | None = None
    height: Side | None = None
    num_inference_steps: InferenceSteps | None = None
    guidance_scale: GuidanceScale | None = None


class GenerateResponse(Payload):
    image: ImageRef
    model: ModelIdentity


class Finding(Frozen):
    """One thing the critic says is wrong."""

    aspect: Aspect
    subject: ShortText = Field(
        description="what it is about, as the picture shows it: 'the left blue circle'"
    )
    problem: ShortText = Field(description="what is wrong with it: 'is blue, not purple'")


class Critique(Frozen):
    """What a picture shows and where it departs from its prompt. No findings: nothing to correct."""

    description: Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=1_000)]
    findings: tuple[Finding, ...] = Field(max_length=8)


class CritiqueRequest(Payload):
    prompt: Prompt
    image: ImageInput


class CritiqueResponse(Payload):
    critique: Critique
    model: ModelIdentity


class EditInstruction(Frozen):
    """One actionable edit: `text` is what the editor is told."""

    action: Action
    target: ShortText
    text: ShortText


class InstructRequest(Payload):
    """Turn a critique into at most `max_instructions` editing instructions."""

    prompt: Prompt
    image: ImageInput
    critique: Critique
    max_instructions: Annotated[int, Field(ge=1, le=8)] = 3


class InstructResponse(Payload):
    instructions: list[EditInstruction]
    model: ModelIdentity


class EditRequest(Payload):
    """Carry out one instruction on one image. What is left out takes the profile's value."""

    prompt: Prompt
    image: ImageInput
    instruction: EditInstruction
    seed: Seed
    adapter: Adapter = None
    num_inference_steps: InferenceSteps | None = None
    guidance_scale: GuidanceScale | None = None
    image_guidance_scale: GuidanceScale | None = None
    strength: Strength | None = None
    controlnet_conditioning_scale: ConditioningScale | None = None


class EditResponse(Payload):
    image: ImageRef
    model: ModelIdentity


class RewardRequest(Payload):
    """Score images under one prompt with the named reward models; all of them where none is named."""

    prompt: Prompt
    images: Annotated[list[ImageInput], Field(min_length=1, max_length=MOST_SCORED)]
    rewards: Annotated[list[RewardName], Field(min_length=1, max_length=16)] | None = None


class Score(Frozen):
    """`raw` is the model's own output and what is compared; `published` is the scale that papers print."""

    raw: float
    published: float


class RewardResponse(Payload):
    """`scores[i][name]` belongs to `images[i]` of the request."""

    scores: list[dict[RewardName, Score]]
    models: dict[RewardName, ModelIdentity]


class DistanceRequest(Payload):
    """Two sets of images, to be compared as distributions in the image space of a CLIP reward model."""

    images: Annotated[list[ImageInput], Field(min_length=2, max_length=MOST_COMPARED)]
    reference: Annotated[list[ImageInput], Field(min_length=2, max_length=MOST_COMPARED)]
    reward: RewardName | None = Field(
        default=None, description="none: the first by name that has an image space"
    )


class DistanceResponse(Payload):
    """The Fréchet distance (arXiv 1706.08500): 0 for equal distributions. It falls with the sets' size, so
    compare only distances between sets of the same sizes."""

    distance: float
    reward: RewardName
    model: ModelIdentity
