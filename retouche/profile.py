"""Profiles: one YAML file names the models and defaults of a whole system (deploy/profiles/*.yaml)."""

from pathlib import Path
from typing import Annotated, Literal

import yaml
from pydantic import Field, ValidationError

from retouche.contract.payload import Payload
from retouche.contract.stages import (
    ConditioningScale,
    GuidanceScale,
    InferenceSteps,
    RewardName,
    Side,
    Strength,
)
from retouche.errors import BadRequest

FOLDER = Path(__file__).parent.parent / "deploy" / "profiles"

MaxBatch = Annotated[int, Field(ge=1, le=256)]
Dtype = Literal["float32", "float16", "bfloat16"]


class ModelChoice(Payload):
    """A model: a folder (relative to the checkout) or a Hub id at a revision."""

    model: str
    revision: str | None = None
    dtype: Dtype = "float32"
    max_batch: MaxBatch = 8


class GenerationProfile(ModelChoice):
    """`vae`: a folder or Hub id of another autoencoder than the model's own."""

    vae: str | None = None
    vae_revision: str | None = None
    width: Side
    height: Side
    num_inference_steps: InferenceSteps
    guidance_scale: GuidanceScale


class VisionLanguageProfile(ModelChoice):
    """`local` loads `model` in this process; `openai` asks the server at `base_url` for it."""

    backend: Literal["local", "openai"] = "local"
    base_url: str | None = None
    max_answer_tokens: Annotated[int, Field(ge=16, le=4096)] = 512

    @property
    def address(self) -> str:
        """Where the `openai` backend asks: `base_url`, or where `vllm serve` listens."""
        return self.base_url or "http://127.0.0.1:8000/v1"


class EditingProfile(ModelChoice):
    """`text` is what the editor reads, over {prompt} and {instruction}; `max_side` bounds its memory.

    `guidance_scale` is the true classifier-free one of qwen_image_edit, the distilled one of flux_kontext.
    """

    editor: Literal[
        "instruct_pix2pix", "controlnet_ip2p", "controlnet_ip2p_img2img", "qwen_image_edit", "flux_kontext"
    ]
    controlnet: str | None = None
    controlnet_revision: str | None = None
    max_side: Side = 1024
    text: str = "{instruction}"
    num_inference_steps: InferenceSteps
    guidance_scale: GuidanceScale
    image_guidance_scale: GuidanceScale = 1.5
    strength: Strength = 0.8
    controlnet_conditioning_scale: ConditioningScale = 1.0


class RewardChoice(ModelChoice):
    """One reward model: what its files are read as, and what its weights come without.

    `clip` is any CLIPModel that scores as PickScore does. `base`: the folder or Hub id the weights were
    trained from, for the tokenizer, image processor or backbone that `model` does not hold.
    `margin`: what counts as a difference between two raw scores where a job does not say.
    """

    kind: Literal["clip", "pickscore", "imagereward", "hpsv2", "aesthetic", "clipscore"]
    base: str | None = None
    base_revision: str | None = None
    margin: Annotated[float, Field(ge=0)] = 0.0

    @property
    def is_clip(self) -> bool:
        """Is `model` a CLIPModel? hpsv2 has open_clip's names for the tensors of one."""
        return self.kind in ("clip", "pickscore", "clipscore")


class TrainingProfile(Payload):
    """Defaults of training runs on the profile's generation model."""

    anchor_weight: Annotated[float, Field(ge=0)] = 0.0


class Profile(Payload):
    """The models and defaults of every service."""

    generation: GenerationProfile
    critique: VisionLanguageProfile
    instruction: VisionLanguageProfile
    editing: EditingProfile
    rewards: Annotated[dict[RewardName, RewardChoice], Field(min_length=1)]
    training: TrainingProfile = TrainingProfile()


def load_profile(name: str) -> Profile:
    """The profile `name` of deploy/profiles, or the YAML file at that path.

    Raises:
        BadRequest: there is none, or it is not a valid profile; names the file and the field.
    """
    path = Path(name) if name.endswith((".yaml", ".yml")) else FOLDER / f"{name}.yaml"
    if not path.is_file():
        known = ", ".join(sorted(found.stem for found in FOLDER.glob("*.yaml")))
        raise BadRequest(f"there is no profile {name!r}; known are {known}, or give a path to a YAML file")
    try:
        return Profile.model_validate(yaml.safe_load(path.read_text()))
    except (ValidationError, yaml.YAMLError, UnicodeDecodeError) as error:
        raise BadRequest(f"the profile {path} is not valid: {error}") from error


def located(model: str) -> str:
    """A model folder named relative to the checkout as an absolute path; a Hub id as it is."""
    folder = FOLDER.parent.parent / model
    return str(folder) if folder.is_dir() else model
