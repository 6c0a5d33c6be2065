"""What a specification may ask of the profile that is deployed here."""

from collections.abc import Sequence
from pathlib import Path

from fastapi import Request

from retouche.errors import FieldProblem, InvalidPayload


def check_deployed(request: Request, profile: str | None, rewards: Sequence[str] = ()) -> None:
    """InvalidPayload where another profile is wanted, or a reward model that this one does not have."""
    state = request.app.state
    deployed = Path(state.settings.profile).stem
    if profile not in (None, deployed):
        raise _invalid(
            "profile", f"{profile!r} is not deployed here, {deployed!r} is; leave it out, or ask there"
        )
    for index, name in enumerate(rewards):
        if name not in state.profile.rewards:
            known = ", ".join(sorted(state.profile.rewards))
            raise _invalid(f"rewards.{index}.name", f"profile {deployed!r} has no {name!r}, but {known}")


def _invalid(field: str, problem: str) -> InvalidPayload:
    return InvalidPayload(f"{field}: {problem}", fields=[FieldProblem(field=field, problem=problem)])
