"""Training runs: which pairs, which base, which objective; how far it has come, what came out."""

import hashlib
from datetime import datetime
from typing import Annotated, Literal, Self

from pydantic import AwareDatetime, ConfigDict, Field, StringConstraints, model_validator

from retouche.contract.jobs import JobId
from retouche.contract.payload import Digest, Frozen, ModelIdentity, Payload, ProfileName, RunId, TenantName
from retouche.contract.reviews import Reviewed
from retouche.contract.stages import Seed

RunState = Literal["queued", "running", "finished", "failed", "cancelled"]

# What the UNet of a base may predict: for these there are objectives.
PREDICTION_TYPES = ("epsilon", "v_prediction")

Revision = Annotated[str, StringConstraints(min_length=1, max_length=200)]
Beta = Annotated[float, Field(gt=0, le=1e6)]


class TrainingData(Frozen):
    """Preference pairs of one curation job, or of a folder in Pick-a-Pic's layout.

    With `follow` the job may still be running: its shards are trained on as they are finished.
    """

    job: JobId | None = None
    more_jobs: Annotated[tuple[JobId, ...], Field(max_length=100)] = Field(
        default=(), description="finished jobs whose pairs come on top of those of `job`"
    )
    follow: bool = False
    reviewed: Reviewed = Field(
        default="all",
        description="what people decided: ignored, without the rejected pairs, or those accepted",
    )
    reviewed_until: AwareDatetime | None = Field(
        default=None, description="later decisions do not count; none: those known when the run is submitted"
    )
    pick_a_pic: Annotated[str, StringConstraints(min_length=1, max_length=1_000)] | None = Field(
        default=None, description="a folder with data/train-*.parquet that the trainer can read"
    )
    horizontal_flips: bool = Field(default=False, description="half of the pairs mirrored, both images alike")
    empty_prompt_share: Annotated[float, Field(ge=0, lt=1)] = Field(
        default=0.0, description="share of examples whose prompt is left out, for classifier-free guidance"
    )

    @model_validator(mode="after")
    def _one_source(self) -> Self:
        if (self.job is None) == (self.pick_a_pic is None):
            raise ValueError("give either `job` or `pick_a_pic`, and not both")
        if self.follow and self.job is None:
            raise ValueError("`follow` needs a `job`: a folder does not grow")
        if self.more_jobs and (self.job is None or self.follow):
            raise ValueError("`more_jobs` comes on top of a finished `job`, not of a folder or a running job")
        if self.reviewed != "all" and (self.job is None or self.follow):
            raise ValueError(
                "`reviewed` needs a finished `job`: neither a folder nor a running job has decisions"
            )
        if self.reviewed_until is not None and self.reviewed == "all":
            raise ValueError("`reviewed_until` means nothing while `reviewed` is all")
        return self


class Anchored(Frozen):
    """What every preference objective may add: `anchor_weight` times the chosen image's own squared error."""

    anchor_weight: Annotated[float, Field(ge=0, le=1e6)] | None = Field(
        default=None, description="none: what the profile says"
    )


class Sft(Frozen):
    """Supervised fine-tuning on the chosen images; the rejected ones are only measured."""

    name: Literal["sft"] = "sft"


class DiffusionDpo(Anchored):
    """Diffusion-DPO (arXiv 2311.12908); `beta` with the paper's factor one half outside of it."""

    name: Literal["diffusion_dpo"] = "diffusion_dpo"
    loss: Literal["sigmoid", "hinge", "ipo"] = "sigmoid"
    beta: Beta = 2000.0


class DiffusionRpo(Anchored):
    """Diffusion-RPO, the relative one (arXiv 2406.06382): every chosen image against every rejected one."""

    name: Literal["diffusion_rpo"] = "diffusion_rpo"
    beta: Beta = 2000.0
    temperature: Annotated[float, Field(gt=0, le=100)] = Field(
        default=0.01, description="of the weights over related prompts: small ones look at the nearest only"
    )
    relation_model: Annotated[str, StringConstraints(min_length=1, max_length=500)] | None = Field(
        default=None, description="a CLIPModel folder or Hub id; none: the profile's first CLIP reward model"
    )
    relation_revision: Revision | None = None
    relation_base: Annotated[str, StringConstraints(min_length=1, max_length=500)] | None = Field(
        default=None,
        description="where the relation model's tokenizer and image processor lie; none: in its own folder",
    )
    relation_base_revision: Revision | None = None

    @model_validator(mode="after")
    def _of_a_named_model(self) -> Self:
        if self.relation_model is None and (self.relation_revision or self.relation_base):
            raise ValueError(
                "`relation_revision` and `relation_base` mean nothing without a `relation_model`"
            )
        return self


class RichDpo(Anchored):
    """Diffusion-DPO whose error is weighted by where the two images differ; strength 0 is plain DPO."""

    name: Literal["rich_dpo"] = "rich_dpo"
    beta: Beta = 2000.0
    strength: Annotated[float, Field(ge=0, le=1)] = 0.5


Objective = Annotated[Sft | DiffusionDpo | DiffusionRpo | RichDpo, Field(discriminator="name")]


class Lora(Frozen):
    """Low-rank adapters on the UNet's attention; the reference model is the same UNet with them off."""

    kind: Literal["lora"] = "lora"
    rank: Annotated[int, Field(ge=1, le=512)] = 16
    alpha: Annotated[int, Field(ge=1, le=1_024)] | None = Field(default=None, description="none: the rank")


class Full(Frozen):
    """Every weight of the UNet; the reference model is a frozen copy."""

    kind: Literal["full"] = "full"


Tuning = Annotated[Lora | Full, Field(discriminator="kind")]


class Optimisation(Frozen):
    """How the weights are moved. A batch is `batch_size` pairs x accumulation x processes."""

    steps: Annotated[int, Field(ge=1, le=1_000_000)] = 500
    batch_size: Annotated[int, Field(ge=1, le=1_024)] = 8
    gradient_accumulation_steps: Annotated[int, Field(ge=1, le=1_024)] = 1
    learning_rate: Annotated[float, Field(gt=0, le=1)] = 1e-4
    warmup_steps: Annotated[int, Field(ge=0)] = 50
    weight_decay: Annotated[float, Field(ge=0, le=1)] = 0.01
    max_grad_norm: Annotated[float, Field(gt=0)] = 1.0
    mixed_precision: Literal["no", "fp16", "bf16"] = "no"
    ema_decay: Annotated[float, Field(gt=0, lt=1)] | None = None
    checkpoint_every_steps: Annotated[int, Field(ge=1)] = 100
    log_every_steps: Annotated[int, Field(ge=1)] = 10
    collapse_ratio: Annotated[float, Field(gt=1)] = Field(
        default=2.0, description="stop when the chosen images' error is this many times the reference model's"
    )


class RunSpec(Frozen):
    """A training run, completely: the same specification is the same run."""

    data: TrainingData
    profile: ProfileName = None
    base: Annotated[str, StringConstraints(min_length=1, max_length=500)] | None = Field(
        default=None, description="a pipeline folder or Hub id; none: the profile's generation model"
    )
    revision: Revision | None = None
    objective: Objective = DiffusionDpo()
    tuning: Tuning = Lora()
    optimisation: Optimisation = Optimisation()
    seed: Seed = 0

    def run_id(self, tenant: TenantName) -> str:
        """Derived from the content: a tenant that submits the same specification twice has one run."""
        content = f"{tenant}\n{self.model_dump_json()}"
        return "run-" + hashlib.sha256(content.encode()).hexdigest()[:16]


class RunRecord(Frozen):
    """`runs/<id>/spec.json`: the specification as it was accepted."""

    id: RunId
    tenant: TenantName
    spec: RunSpec
    created_at: datetime


class TrainingMetrics(Payload):
    """What is logged: means over the steps since the last one. Errors are per-pixel squared errors."""

    model_config = ConfigDict(allow_inf_nan=True)  # what a run stops for has to be said first

    step: int
    loss: float
    implicit_accuracy: float = Field(description="share of pairs whose chosen image the policy prefers")
    reward_margin: float = Field(description="mean implicit reward of chosen minus rejected, times beta / 2")
    chosen_error: float
    rejected_error: float
    reference_chosen_error: float
    reference_rejected_error: float
    learning_rate: float
    pairs_per_second: float


class RunResult(Payload):
    """`runs/<id>/finished.json`: what the run came to."""

    base: ModelIdentity
    steps: int
    pairs: int
    data_digest: Digest = Field(description="of the identifiers of the pairs trained on")
    metrics: TrainingMetrics
    seconds: float


class Artifact(Payload):
    """A file that a run made; fetched with GET /v1/runs/{id}/artifacts/{name}."""

    name: str
    bytes: int


class Run(Payload):
    """A run as the gateway shows it."""

    id: RunId
    state: RunState
    created_at: datetime
    spec: RunSpec
    step: int = 0
    metrics: TrainingMetrics | None = None
    artifacts: list[Artifact] = []
    result: RunResult | None = None
    error: str | None = Field(default=None, description="why it failed, and what to do")


class RunPage(Payload):
    runs: list[Run]
    next_cursor: str | None = None


class RunEvent(Payload):
    """One server-sent event of a run: `progress` while it trains, then the state it ended in."""

    id: str
    event: Literal["progress", "finished", "failed", "cancelled"]
    run: Run
