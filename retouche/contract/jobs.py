"""Curation jobs: what is asked for, how far it has come, what came out."""

import hashlib
from datetime import datetime
from typing import Annotated, Literal, Self

from pydantic import Field, StringConstraints, model_validator

from retouche.contract.payload import (
    Digest,
    Frozen,
    ImageRef,
    ModelIdentity,
    Payload,
    ProfileName,
    Prompt,
    TenantName,
)
from retouche.contract.reviews import Review
from retouche.contract.stages import (
    Adapter,
    ConditioningScale,
    Critique,
    EditInstruction,
    Finding,
    GuidanceScale,
    InferenceSteps,
    RewardName,
    Seed,
    ShortText,
    Side,
    Strength,
)

MAX_INLINE_PROMPTS = 10_000
MAX_ORIGIN_CHARACTERS = 1_000
STARTING_IMAGES = "application/vnd.retouche.starting-images"  # a StartingImage a line, as JSON
SHARD_PROMPTS = 64

JobId = Annotated[str, StringConstraints(pattern=r"^job-[0-9a-f]{16}$")]
JobState = Literal["queued", "running", "finished", "failed", "cancelled"]
Agreement = Literal["all", "majority", "mean"]

# Why something did not become a pair. Counted in every report; one reason for each image or edit lost.
DropReason = Literal[
    "generation_failed",  # the image could not be made
    "unreadable_image",  # the existing image to start from cannot be read
    "critique_failed",
    "no_findings",  # the critic sees nothing to correct: no edit is made
    "instruction_failed",
    "no_instructions",
    "editing_failed",
    "unchanged",  # the editor gave the very same image back
    "reward_failed",
    "tie",  # too few reward models see a difference beyond their margin, and none contradicts the others
    "disagreement",  # the reward models contradict one another under the agreement rule
    "edit_worse",  # the edit is worse and relabelling is off
    "not_best",  # a better edit of the same image became the pair, or one that gave the same picture
]


class RewardRule(Frozen):
    """A reward model that votes: for the better image if the raw scores differ by more than `margin`."""

    name: RewardName
    margin: Annotated[float, Field(ge=0)] = 0.0


class GenerationParameters(Frozen):
    """Overrides of the profile's values for every image of the job."""

    adapter: Adapter = None
    negative_prompt: Annotated[str, StringConstraints(max_length=2_000)] = ""
    width: Side | None = None
    height: Side | None = None
    num_inference_steps: InferenceSteps | None = None
    guidance_scale: GuidanceScale | None = None


class EditingParameters(Frozen):
    """Overrides of the profile's values for every edit of the job."""

    adapter: Adapter = None
    num_inference_steps: InferenceSteps | None = None
    guidance_scale: GuidanceScale | None = None
    image_guidance_scale: GuidanceScale | None = None
    strength: Strength | None = None
    controlnet_conditioning_scale: ConditioningScale | None = None


class StartingImage(Frozen):
    """An existing image to start from in place of a generated one, or the `problem` with reading it."""

    prompt: Prompt
    image: ImageRef | None = None
    origin: Annotated[str, StringConstraints(min_length=1, max_length=MAX_ORIGIN_CHARACTERS)] = Field(
        description="where it comes from: file and row"
    )
    problem: Annotated[str, StringConstraints(min_length=1, max_length=MAX_ORIGIN_CHARACTERS)] | None = None

    @model_validator(mode="after")
    def _image_or_problem(self) -> Self:
        if (self.image is None) == (self.problem is None):
            raise ValueError("give either `image` or `problem`, and not both")
        return self


class ModelIdentities(Frozen):
    """Which models made a pair, or are to make all pairs of a job.

    A job's `style` takes the place of critique and instruction.
    """

    generation: ModelIdentity | None = Field(
        default=None, description="null: the job started from an existing image"
    )
    critique: ModelIdentity | None = None
    instruction: ModelIdentity | None = None
    editing: ModelIdentity
    rewards: dict[RewardName, ModelIdentity]


class CurationSpec(Frozen):
    """A curation job, completely: the same specification is the same job.

    Prompts come inline or as a prompt set uploaded before. A prompt set of starting images makes the job
    start from them: nothing is generated, and each is one image whatever `images_per_prompt` says.

    `agreement` says when votes decide: "all" (every reward model votes the same way), "majority" (more than
    half of the models vote the same way), "mean" (the mean of the differences, each divided by its margin, is
    beyond 1 in size; where any margin is 0, that model's difference is taken as it is and a mean of any size
    but 0 decides).
    """

    prompts: Annotated[tuple[Prompt, ...], Field(min_length=1, max_length=MAX_INLINE_PROMPTS)] | None = None
    prompt_set: Digest | None = None
    profile: ProfileName = None
    models: ModelIdentities | None = Field(
        default=None,
        description="a shard that finds others deployed is given up; none: whichever are deployed, and the "
        "same specification stays the same job when they change",
    )
    images_per_prompt: Annotated[int, Field(ge=1, le=16)] = 1
    instructions_per_image: Annotated[int, Field(ge=1, le=8)] = 3
    edits_per_instruction: Annotated[int, Field(ge=1, le=8)] = 1
    pairs_per_image: Annotated[int, Field(ge=1, le=64)] = 1
    rewards: Annotated[tuple[RewardRule, ...], Field(max_length=16)] = Field(
        default=(), description="none: every reward model of the profile, margins as the profile says"
    )
    agreement: Agreement = "all"
    relabel: bool = Field(
        default=True, description="an edit that made it worse becomes a pair with the original chosen"
    )
    style: ShortText | None = Field(
        default=None,
        description="one editing instruction for every image, in place of critique and instructions; its "
        "edits are the chosen ones whatever the reward models say (Style Alignment, arXiv 2406.06382)",
    )
    seed: Seed = 0
    generation: GenerationParameters = GenerationParameters()
    editing: EditingParameters = EditingParameters()

    @model_validator(mode="after")
    def _one_source(self) -> Self:
        if (self.prompts is None) == (self.prompt_set is None):
            raise ValueError("give either `prompts` or `prompt_set`, and not both")
        if len({rule.name for rule in self.rewards}) != len(self.rewards):
            raise ValueError("each reward model may be named once in `rewards`")
        return self

    def job_id(self, tenant: TenantName) -> str:
        """Derived from the content: a tenant that submits the same specification twice has one job."""
        content = f"{tenant}\n{self.model_dump_json()}"
        return "job-" + hashlib.sha256(content.encode()).hexdigest()[:16]


class JobRecord(Frozen):
    """`jobs/<id>/spec.json`: the specification as it was accepted, its prompts as a prompt set."""

    id: JobId
    tenant: TenantName
    spec: CurationSpec
    created_at: datetime
    prompt_set: Digest
    prompts: int
    shards: int


class StageProgress(Payload):
    """How many calls of one stage are done, how many of them came from the memo, how many failed."""

    done: int = 0
    remembered: int = 0
    failed: int = 0


class JobReport(Payload):
    """What a shard, or all finished shards of a job, came to."""

    prompts: int = 0
    images: int = 0
    images_with_findings: int = 0
    edits: int = 0
    pairs: int = 0
    dropped: dict[DropReason, int] = {}
    stages: dict[str, StageProgress] = {}
    seconds: float = Field(default=0.0, description="summed over shards")


class Job(Payload):
    """A job as the gateway shows it."""

    id: JobId
    state: JobState
    created_at: datetime
    prompts: int
    images_per_prompt: int
    shards: int
    shards_finished: int
    shards_failed: int = 0
    report: JobReport
    error: str | None = Field(default=None, description="why it failed, and what to do")


class JobPage(Payload):
    jobs: list[Job]
    next_cursor: str | None = None


class JobEvent(Payload):
    """One server-sent event of a job: `progress` while it runs, then the state it ended in."""

    id: str
    event: Literal["progress", "finished", "failed", "cancelled"]
    job: Job


class ImageInfo(Payload):
    """An image in the store."""

    image: ImageRef
    width: int
    height: int
    bytes: int
    media_type: str


class PromptSetInfo(Payload):
    """An uploaded prompt set; of starting images, `prompts` counts them."""

    prompt_set: Digest
    prompts: int


class PreferencePair(Payload):
    """Two images of one prompt and which is better, with everything that led to it."""

    id: str = Field(description="derived from prompt, images and instruction")
    prompt: str
    chosen: ImageRef
    rejected: ImageRef
    chosen_is_edit: bool
    critique: Critique | None = Field(description="none: the job gave every image one style")
    instruction: EditInstruction
    chosen_scores: dict[RewardName, float]
    rejected_scores: dict[RewardName, float]
    models: ModelIdentities
    origin: str | None = Field(default=None, description="where the existing image comes from: file and row")
    generation_seed: int | None = Field(description="null: the job started from an existing image")
    editing_seed: int
    prompt_index: int
    image_index: int
    review: Review | None = Field(
        default=None,
        description="the decision that counts; where `reviewed` asks for it, a flip is carried out already",
    )

    @property
    def original(self) -> ImageRef:
        return self.rejected if self.chosen_is_edit else self.chosen

    @property
    def edited(self) -> ImageRef:
        return self.chosen if self.chosen_is_edit else self.rejected

    @property
    def original_scores(self) -> dict[RewardName, float]:
        return self.rejected_scores if self.chosen_is_edit else self.chosen_scores

    @property
    def edited_scores(self) -> dict[RewardName, float]:
        return self.chosen_scores if self.chosen_is_edit else self.rejected_scores

    @property
    def findings(self) -> tuple[Finding, ...]:
        """What the critique found; nothing where there was none."""
        return self.critique.findings if self.critique else ()


class PairPage(Payload):
    pairs: list[PreferencePair]
    next_cursor: str | None = None


class EditTrace(Payload):
    """One edit of one image and what became of it: `outcome` is "pair" or the reason it was dropped."""

    instruction: EditInstruction
    seed: int
    image: ImageRef | None = None
    scores: dict[RewardName, float] = {}
    outcome: Literal["pair"] | DropReason
    error: str | None = None


class ImageTrace(Payload):
    """One image, generated or existing (`origin`), and everything the job did with it.

    `seed` made it, where it was generated, and those of its edits derive from it. `dropped` is why there were
    no edits at all.
    """

    prompt: str
    prompt_index: int
    image_index: int
    seed: int
    origin: str | None = None
    image: ImageRef | None = None
    scores: dict[RewardName, float] = {}
    critique: Critique | None = None
    instructions: list[EditInstruction] = []
    edits: list[EditTrace] = []
    dropped: DropReason | None = None
    error: str | None = None


class TracePage(Payload):
    traces: list[ImageTrace]
    next_cursor: str | None = None
