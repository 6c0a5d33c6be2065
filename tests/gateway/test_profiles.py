"""Which profile is deployed: named with what it does for jobs that say nothing."""

import httpx2
import pytest

from retouche.profile import load_profile


def test_the_deployed_profile_is_told_with_its_values(gateway: httpx2.Client) -> None:
    (found,) = gateway.get("/v1/profiles").json()
    shapes = load_profile("shapes")
    assert found["name"] == "shapes"
    assert found["generation"]["num_inference_steps"] == shapes.generation.num_inference_steps
    assert found["editing"]["image_guidance_scale"] == shapes.editing.image_guidance_scale
    assert found["rewards"] == {name: reward.margin for name, reward in shapes.rewards.items()}


@pytest.mark.parametrize(("profile", "status"), [("shapes", 201), ("sdxl", 422)])
def test_only_what_is_told_may_be_named(gateway: httpx2.Client, profile: str, status: int) -> None:
    (found,) = gateway.get("/v1/profiles").json()
    answer = gateway.post("/v1/jobs", json={"prompts": ["x"], "profile": profile})
    assert answer.status_code == status
    assert (answer.status_code == 201) == (profile == found["name"])
