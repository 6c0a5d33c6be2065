"""What a run gives: a LoRA that plain diffusers loads, or a whole pipeline, with a model card."""

import json
from pathlib import Path

import torch
from diffusers import (
    DiffusionPipeline,
    StableDiffusionPipeline,
    StableDiffusionXLPipeline,
    UNet2DConditionModel,
)
from diffusers.loaders.lora_base import LORA_ADAPTER_METADATA_KEY
from diffusers.utils.state_dict_utils import convert_state_dict_to_diffusers
from peft.utils.save_and_load import get_peft_model_state_dict
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from retouche.contract.runs import Full, RunResult, RunSpec
from trainer.policy import Policy
from trainer.refusal import refused

# Generation draws without a checker, and many copies of a base come without the weights of theirs.
_NO_CHECKER = {"safety_checker": None, "feature_extractor": None, "requires_safety_checker": False}
# What diffusers raises at a part that is not there, no safetensors, of another shape, of no known class.
_DAMAGED = (OSError, ValueError, SafetensorError, RuntimeError, AttributeError, KeyError)


def check_parts(base: str, revision: str | None = None) -> None:
    """Refuse a base of which full fine-tuning could not make a pipeline in the end.

    Raises:
        BadRequest: a part of it besides the UNet cannot be read; says which.
    """
    try:
        _pipeline(base, revision, None)
    except _DAMAGED as error:
        raise refused("base", f"{base!r} makes no pipeline with a trained UNet: {error}") from None


def write(folder: Path, spec: RunSpec, base: str, policy: Policy, result: RunResult) -> Path:
    """Write `folder`/artifacts from the last weights in `folder`; returns it.

    `folder` is named as the run; `base`: where that lies.
    """
    artifacts = folder / "artifacts"
    artifacts.mkdir(parents=True, exist_ok=True)
    trained = load_file(folder / "weights.safetensors")
    with torch.no_grad():
        for name, weight in policy.trainable().items():
            weight.copy_(trained[name])
    if isinstance(spec.tuning, Full):
        _save_pipeline(spec, base, policy, artifacts)
    else:
        save_adapter(policy, artifacts)
    (artifacts / "specification.json").write_text(spec.model_dump_json(indent=2) + "\n")
    (artifacts / "README.md").write_text(model_card(folder.name, spec, result))
    return artifacts


def model_card(run_id: str, spec: RunSpec, result: RunResult) -> str:
    """What was trained on what, how, and what came of it, in the Hub's format."""
    metrics, tuning, how = result.metrics, spec.tuning, spec.optimisation
    kind = "lora" if tuning.kind == "lora" else "full"
    data = (
        f"curation job `{spec.data.job}`" if spec.data.job else f"Pick-a-Pic folder `{spec.data.pick_a_pic}`"
    )
    load = (
        'pipeline.load_lora_weights("THIS_FOLDER")'
        if kind == "lora"
        else 'pipeline = DiffusionPipeline.from_pretrained("THIS_FOLDER")'
    )
    header = {
        "base_model": spec.base,
        "library_name": "diffusers",
        "tags": [spec.objective.name, kind, "retouche"],
    }
    rows = [
        ("objective", f"`{json.dumps(spec.objective.model_dump(exclude_none=True))}`"),
        ("tuning", f"`{json.dumps(tuning.model_dump(exclude_none=True))}`"),
        ("optimisation", f"`{json.dumps(how.model_dump(exclude_none=True))}`"),
        ("seed", str(spec.seed)),
        ("steps", str(result.steps)),
        ("base", f"`{result.base}`"),
        ("data", data),
        ("pairs", str(result.pairs)),
        ("data digest", f"`{result.data_digest}`"),
        ("implicit accuracy, last", f"{metrics.implicit_accuracy:.3f}"),
        ("reward margin, last", f"{metrics.reward_margin:.4f}"),
        (
            "chosen error, last",
            f"{metrics.chosen_error:.5f} (reference {metrics.reference_chosen_error:.5f})",
        ),
        (
            "rejected error, last",
            f"{metrics.rejected_error:.5f} (reference {metrics.reference_rejected_error:.5f})",
        ),
    ]
    front = "\n".join(f"{key}: {json.dumps(value)}" for key, value in header.items())
    table = "\n".join(f"| {name} | {value} |" for name, value in rows)
    return (
        f"---\n{front}\n---\n\n# {run_id}\n\n"
        f"{spec.base}, tuned with Retouche on preference pairs by `{spec.objective.name}`.\n\n"
        f"    {load}\n\n"
        + ("It has no safety checker, whether or not its base had one.\n\n" if kind == "full" else "")
        + f"| | |\n|---|---|\n{table}\n\n"
        "The last metrics are those of the training pairs; they do not say that the images are better. "
        f"`retouche evaluate {run_id} --prompts FILE` does.\n"
    )


def save_adapter(policy: Policy, folder: Path) -> None:
    """Write the LoRA as `pipeline.load_lora_weights` reads it; the same LoRA is the same bytes."""
    state = convert_state_dict_to_diffusers(get_peft_model_state_dict(policy.unet))
    adapter = policy.unet.peft_config["default"].to_dict()  # without its alpha, diffusers takes the rank
    adapter["target_modules"] = sorted(adapter["target_modules"])  # a set
    described = json.dumps({f"unet.{name}": value for name, value in adapter.items()}, sort_keys=True)

    def save(weights: dict[str, torch.Tensor], path: str) -> None:
        # Not as diffusers does, with a second entry: safetensors writes several in an order of chance.
        save_file(weights, path, metadata={LORA_ADAPTER_METADATA_KEY: described})

    xl = policy.unet.config.addition_embed_type == "text_time"
    kind = StableDiffusionXLPipeline if xl else StableDiffusionPipeline
    kind.save_lora_weights(folder, unet_lora_layers=state, save_function=save)


def _save_pipeline(spec: RunSpec, base: str, policy: Policy, folder: Path) -> None:
    pipeline = _pipeline(base, spec.revision, policy.unet.eval())
    pipeline.save_pretrained(folder, safe_serialization=True)


def _pipeline(base: str, revision: str | None, unet: UNet2DConditionModel | None) -> DiffusionPipeline:
    """The pipeline of a base with another UNet."""
    index = DiffusionPipeline.load_config(base, revision=revision)
    unused = _NO_CHECKER if "safety_checker" in index else {}
    return DiffusionPipeline.from_pretrained(
        base, revision=revision, unet=unet, use_safetensors=True, **unused
    )
