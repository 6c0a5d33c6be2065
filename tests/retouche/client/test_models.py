"""A job can name the models it is for: under other weights it is another job."""

from bench.stub_services import MODELS
from retouche.client import Retouche
from retouche.contract.jobs import CurationSpec
from retouche.contract.payload import LOCAL, ModelIdentity


def test_the_deployed_models_are_known_once_every_service_is_ready(served_url: str, gateway_url: str) -> None:
    with Retouche(served_url) as client, Retouche(gateway_url) as without_services:
        models = client.deployed_models()
        assert models is not None
        assert models.generation == MODELS["generation"]
        assert models.rewards == {name: MODELS[name] for name in ("redness", "contrary")}
        named = client.deployed_models(["redness"])
        assert named is not None
        assert set(named.rewards) == {"redness"}
        assert client.deployed_models(["beauty"]) is None
        assert without_services.deployed_models() is None


def test_other_weights_are_another_job(served_url: str) -> None:
    with Retouche(served_url) as client:
        models = client.deployed_models()
        assert models is not None
        retrained = models.model_copy(update={"editing": ModelIdentity(id="stub-editing", revision="2")})
        specs = [CurationSpec(prompts=("a fox",), models=named) for named in (None, models, retrained)]
        assert len({spec.job_id(LOCAL) for spec in specs}) == 3
        assert client.submit(specs[1]).id == client.submit(specs[1]).id
        idle = models.model_copy(update=dict.fromkeys(("generation", "critique", "instruction")))
        assert client.submit(CurationSpec(prompts=("a fox",), models=idle)).state == "queued"
