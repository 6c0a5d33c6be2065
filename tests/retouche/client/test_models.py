"""A job can name the models it is for: under other weights it is another job."""

import pytest

from bench.stub_services import MODELS
from retouche.client import Retouche
from retouche.contract.jobs import CurationSpec, ModelIdentities, RewardRule
from retouche.contract.payload import LOCAL, ModelIdentity
from retouche.errors import InvalidPayload

FOX = CurationSpec(prompts=("a fox",))


def pinned(client: Retouche, **changes: object) -> tuple[CurationSpec, ModelIdentities]:
    """A job for a fox, pinned, and the models it names."""
    found = client.pinned(FOX.model_copy(update=changes))
    assert found is not None
    assert found.models is not None
    return found, found.models


def test_a_job_can_be_pinned_to_what_is_deployed_once_every_service_is_ready(
    served_url: str, gateway_url: str
) -> None:
    with Retouche(served_url) as client, Retouche(gateway_url) as without_services:
        found, models = pinned(client)
        assert models.generation == MODELS["generation"]
        assert models.rewards == {name: MODELS[name] for name in ("redness", "contrary")}
        reward = client.services()["reward"].readiness
        assert reward is not None
        assert {rule.name: rule.margin for rule in found.rewards} == reward.margins
        assert without_services.pinned(FOX) is None


def test_a_pinned_job_names_no_model_that_has_no_part_in_it(served_url: str) -> None:
    chosen = RewardRule(name="redness", margin=0.5)
    with Retouche(served_url) as client:
        found, models = pinned(client, rewards=(chosen,))
        assert found.rewards == (chosen,)
        assert set(models.rewards) == {"redness"}
        _, models = pinned(client, style="as a woodcut")
        assert models.editing == MODELS["editing"]
        assert models.critique is models.instruction is None
        given = client.pinned(FOX, starting_images=True)
        assert given is not None
        assert given.models is not None
        assert given.models.generation is None


def test_a_reward_that_nobody_has_is_for_the_gateway_to_refuse(served_url: str) -> None:
    with Retouche(served_url) as client:
        found, _ = pinned(client, rewards=(RewardRule(name="beauty"),))
        with pytest.raises(InvalidPayload, match="has no 'beauty'"):
            client.submit(found)


def test_other_weights_are_another_job(served_url: str) -> None:
    with Retouche(served_url) as client:
        found, models = pinned(client)
        other = models.model_copy(update={"editing": ModelIdentity(id="stub-editing", revision="2")})
        specs = [FOX, found, found.model_copy(update={"models": other})]
        assert len({spec.job_id(LOCAL) for spec in specs}) == 3
        known = found.model_copy(update={"rewards": ()})  # the gateway's profile has others than the stubs
        assert client.submit(known).id == client.submit(known).id
