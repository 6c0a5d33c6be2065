"""The profile that is deployed here, and what a specification may ask of it."""

import re
from collections.abc import Sequence
from pathlib import Path

from fastapi import APIRouter, Request
from pydantic import BaseModel, ValidationError

from gateway.callers import READ, Caller
from retouche.contract.jobs import EditingParameters, GenerationParameters
from retouche.contract.profiles import DeployedProfile
from retouche.contract.runs import PREDICTION_TYPES, RunSpec
from retouche.errors import FieldProblem, Forbidden, InvalidPayload
from retouche.profile import Profile, located

router = APIRouter(tags=["jobs"])

_MODELS = "models/"  # where operators keep weights, which need not lie with the gateway (deploy/models.yaml)
_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")


@router.get("/v1/profiles", dependencies=[READ])
async def profiles(request: Request) -> list[DeployedProfile]:
    """The profiles that jobs and runs may name here, with what they do where nothing is said."""
    profile: Profile = request.app.state.profile
    drawn = {"width", "height", "num_inference_steps", "guidance_scale"}
    edited = {"num_inference_steps", "guidance_scale", "image_guidance_scale", "strength",
              "controlnet_conditioning_scale"}  # fmt: skip
    deployed = DeployedProfile(
        name=_name(request),
        generation=GenerationParameters.model_validate(profile.generation.model_dump(include=drawn)),
        editing=EditingParameters.model_validate(profile.editing.model_dump(include=edited)),
        rewards={name: reward.margin for name, reward in profile.rewards.items()},
    )
    return [deployed]


def check_deployed(request: Request, profile: str | None, rewards: Sequence[str] = ()) -> None:
    """InvalidPayload where another profile is wanted, or a reward model that this one does not have."""
    state, deployed = request.app.state, _name(request)
    if profile not in (None, deployed):
        raise _invalid(
            "profile", f"{profile!r} is not deployed here, {deployed!r} is; leave it out, or ask there"
        )
    for index, name in enumerate(rewards):
        if name not in state.profile.rewards:
            known = ", ".join(sorted(state.profile.rewards))
            raise _invalid(f"rewards.{index}.name", f"profile {deployed!r} has no {name!r}, but {known}")


def check_folders(request: Request, caller: Caller, spec: RunSpec) -> None:
    """Forbidden where folders are named that the trainer can read: other tenants' things may lie there.

    Whoever has `admin` may, and everybody on a gateway that wants no keys. The profile's own models and Hub
    ids are for all.
    """
    if "admin" in caller.scopes:
        return
    profile: Profile = request.app.state.profile
    rewards = profile.rewards.values()
    ours = {profile.generation.model, *(name for reward in rewards for name in (reward.model, reward.base))}
    models = {"base": spec.base} | {
        f"objective.{field}": getattr(spec.objective, field, None)
        for field in ("relation_model", "relation_base")
    }
    named = {field: model for field, model in models.items() if model not in (None, *ours)}
    folders = {field: model for field, model in named.items() if _may_be_folder(str(model))}
    if spec.data.pick_a_pic is not None:
        folders["data.pick_a_pic"] = spec.data.pick_a_pic
    for field, folder in folders.items():
        raise Forbidden(
            f"{field}: {folder!r} is a folder of the trainer's; only keys with the scope 'admin' may name one"
        )


def _may_be_folder(model: str) -> bool:
    """What is no Hub id; and what looks like one, where such a folder may lie: they come before the Hub."""
    if not _HUB_ID.fullmatch(model) or model.startswith(_MODELS):
        return True
    return Path(model).is_dir() or Path(located(model)).is_dir()


def _name(request: Request) -> str:
    return Path(request.app.state.settings.profile).stem


def check_base(base: str, profile: Profile) -> None:
    """Refuse a folder that is no pipeline; a Hub id, or the profile's own base, is the trainer's to check."""
    try:
        folder = Path(located(base))
        is_there = folder.is_dir()
    except OSError as error:
        raise _invalid("base", f"{base!r} names no folder: {error.strerror}") from None
    if not is_there:
        if base != profile.generation.model and not _HUB_ID.fullmatch(base):
            raise _invalid("base", f"there is no folder {base!r}, and it is no Hub id such as org/name")
        return
    config = folder / "scheduler" / "scheduler_config.json"
    if not (folder / "unet" / "config.json").is_file() or not config.is_file():
        raise _invalid("base", f"{base!r} is no Stable Diffusion pipeline: it has no unet or no scheduler")
    try:
        kind = _SchedulerConfig.model_validate_json(config.read_bytes()).prediction_type
    except ValidationError as error:
        raise _invalid("base", f"{config} cannot be read: {error.errors()[0]['msg']}") from None
    if kind not in PREDICTION_TYPES:
        known = " or ".join(PREDICTION_TYPES)
        raise _invalid("base", f"{base!r} predicts {kind!r}; train a base that predicts {known}")


class _SchedulerConfig(BaseModel):
    prediction_type: str = "epsilon"


def _invalid(field: str, problem: str) -> InvalidPayload:
    return InvalidPayload(f"{field}: {problem}", fields=[FieldProblem(field=field, problem=problem)])
