"""The form of a training run: on which pairs, with which objective, how long."""

from dataclasses import dataclass
from typing import Any

import gradio as gr

from retouche.contract.runs import DiffusionDpo, DiffusionRpo, Lora, Optimisation, RichDpo, RunSpec
from retouche.errors import BadRequest
from studio.fields import given, number, number_or_empty, whole

_REVIEWED = [
    ("every pair, whatever was decided", "all"),
    ("without the rejected ones", "not_rejected"),
    ("reviewed only: those accepted or flipped", "only"),
]
_OBJECTIVES = [
    ("Diffusion-DPO: prefer the chosen image to the rejected one", "diffusion_dpo"),
    ("Diffusion-RPO: every chosen image of a batch against every rejected one, related prompts most",
     "diffusion_rpo"),
    ("rich DPO: as DPO, and look most where the two images differ", "rich_dpo"),
    ("supervised: draw like the chosen images, whatever was rejected", "sft"),
]  # fmt: skip
_TUNINGS = [("LoRA: small adapters on the base model", "lora"), ("every weight of the UNet", "full")]
_PRECISIONS = [("32 bit", "no"), ("bfloat16", "bf16"), ("float16", "fp16")]

_DEFAULTS = Optimisation()
# Which of the form's settings each objective has.
_HAS: dict[str, set[str]] = {
    "diffusion_dpo": DiffusionDpo.model_fields.keys() - {"loss"},
    "diffusion_rpo": set(DiffusionRpo.model_fields),
    "rich_dpo": set(RichDpo.model_fields),
    "sft": set(),
}


@dataclass(frozen=True)
class Form:
    """The form's components, in the order in which `specification` takes their values."""

    job: gr.Dropdown
    objective: gr.Radio
    tuning: gr.Radio
    rank: gr.Number
    seed: gr.Number
    data: dict[str, Any]
    objectives: dict[str, Any]
    optimisation: dict[str, Any]

    @property
    def inputs(self) -> list[Any]:
        parts = (self.data, self.objectives, self.optimisation)
        fields = [field for part in parts for field in part.values()]
        return [self.job, self.objective, self.tuning, self.rank, self.seed, *fields]

    def specification(self, values: tuple[Any, ...]) -> RunSpec:
        """What the visitor asks for.

        Raises:
            BadRequest: no job is chosen.
            ValidationError: a setting is out of its range.
        """
        job, objective, tuning, rank, seed, *rest = values
        if not job:
            raise BadRequest("Choose the job whose pairs it is to train on.")
        named = iter(rest)
        data = given({name: next(named) for name in self.data})
        how = given({name: next(named) for name in self.objectives})
        optimisation = given({name: next(named) for name in self.optimisation})
        adapters = given({"rank": rank}) if tuning == "lora" else {}
        return RunSpec.model_validate(
            {
                "data": {"job": job, **data},
                "objective": {
                    "name": objective,
                    **{name: how[name] for name in how if name in _HAS[objective]},
                },
                "tuning": {"kind": tuning, **adapters},
                "optimisation": optimisation,
                "seed": 0 if seed is None else seed,
            }
        )


def build() -> Form:
    """The form; what is seldom changed is folded away."""
    with gr.Row():
        job = gr.Dropdown([], label="Pairs of the job", elem_id="run-job", allow_custom_value=True)
        reviewed = gr.Radio(_REVIEWED, value="not_rejected", label="Which of them", elem_id="run-reviewed")
    with gr.Row():
        objective = gr.Radio(_OBJECTIVES, value="diffusion_dpo", label="Objective")
        tuning = gr.Radio(_TUNINGS, value="lora", label="What is trained")
    with gr.Row():
        often = {
            "steps": number("Steps", _DEFAULTS.steps, "Each is one batch of pairs.", 0, "run-steps"),
            "learning_rate": number(
                "Learning rate", _DEFAULTS.learning_rate, "Of the LoRA; a full UNet wants a tenth or less."
            ),
        }
        beta = number("Beta", 2000, "How close to stay to the base: larger is closer, and slower.")
    with gr.Accordion("More settings", open=False):
        data = {"reviewed": reviewed} | _data()
        with gr.Row():
            rank = number("Rank of the LoRA", Lora().rank, "1 to 512: larger can change more.", 0)
            seed = number("Seed", 0, "Another seed, another order and noise.", 0)
        objectives = {"beta": beta} | _objectives()
        optimisation = often | _optimisation()
    return Form(job, objective, tuning, rank, seed, data, objectives, optimisation)


def _data() -> dict[str, Any]:
    with gr.Row():
        return {
            "horizontal_flips": gr.Checkbox(
                False, label="Mirror half of the pairs", info="both images alike"
            ),
            "empty_prompt_share": number(
                "Share without a prompt", 0, "0 to 1: for classifier-free guidance; 0.2 is usual for DPO."
            ),
        }


def _objectives() -> dict[str, Any]:
    with gr.Row():
        return {
            "anchor_weight": number_or_empty(
                "Anchor", "Weight of the chosen image’s own error. Empty: as the profile has it."
            ),
            "temperature": number(
                "Temperature", 0.01, "Of Diffusion-RPO: small looks at the nearest prompts only."
            ),
            "strength": number("Strength", 0.5, "Of rich DPO, 0 to 1: how much differences weigh."),
        }


def _optimisation() -> dict[str, Any]:
    with gr.Row():
        first = {
            "batch_size": whole("Pairs in a batch", _DEFAULTS.batch_size, 1, 64, "Limited by memory."),
            "gradient_accumulation_steps": whole(
                "Batches to a step",
                _DEFAULTS.gradient_accumulation_steps,
                1,
                64,
                "Memory of one, effect of all.",
            ),
        }
    with gr.Row():
        return first | {
            "warmup_steps": number(
                "Warm-up", _DEFAULTS.warmup_steps, "Steps until the learning rate is reached.", 0
            ),
            "checkpoint_every_steps": number(
                "Checkpoint every", _DEFAULTS.checkpoint_every_steps, "Steps that a stop can lose at most.", 0
            ),
            "log_every_steps": number(
                "Log every", _DEFAULTS.log_every_steps, "Steps to a point of the curves.", 0
            ),
            "mixed_precision": gr.Dropdown(
                _PRECISIONS, value="no", label="Precision", info="bfloat16 halves the memory on a GPU."
            ),
        }
