"""Generation with what is not Stable Diffusion 1.5: XL, and a flow that AutoPipelineForText2Image knows."""

from collections.abc import Iterator
from functools import partial
from pathlib import Path

import httpx2
import pytest
import yaml

from retouche.contract.stages import GenerateRequest
from retouche.identity import identify
from retouche.profile import GenerationProfile
from retouche.store import ObjectStore
from services.full_batches import in_full_batches
from services.generation import model
from services.generation.app import create_app
from services.generation.settings import Settings
from tests.services.finished_runs import finish, random_adapter
from tests.services.ready import ready
from tests.services.small_pipelines import write_flux, write_stable_diffusion, write_stable_diffusion_xl

TUNED, FOREIGN = "run-" + "a1" * 8, "run-" + "b2" * 8
PROMPTS = ("a red circle", "a blue square above a red circle", "a star")


@pytest.fixture(scope="module", params=["xl", "xl with another autoencoder", "flux"])
def profile(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> GenerationProfile:
    """A small pipeline of each kind."""
    folder = tmp_path_factory.mktemp("models")
    names = {"model": write_flux(folder / "flux")}
    if request.param != "flux":
        names = {"model": write_stable_diffusion_xl(folder / "xl")}
    if request.param == "xl with another autoencoder":
        names["vae"] = f"{write_stable_diffusion(folder / 'other')}/vae"
    return GenerationProfile.model_validate(
        {**names, "width": 64, "height": 64, "num_inference_steps": 2, "guidance_scale": 3.0, "max_batch": 3}
    )


@pytest.fixture(scope="module")
def service(profile: GenerationProfile, tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx2.Client]:
    """The service on it, and two runs said to be of it: one of XL, one of 1.5."""
    folder, store = tmp_path_factory.mktemp("runs"), str(tmp_path_factory.mktemp("store"))
    for run_id, base in (
        (TUNED, write_stable_diffusion_xl(folder / "tuned")),
        (FOREIGN, write_stable_diffusion(folder / "foreign")),
    ):
        finish(ObjectStore(store), run_id, random_adapter(base, folder / run_id), identify(profile.model))
    settings = Settings(profile=_written(profile, folder), store=store)
    with ready(create_app(settings)) as client:
        yield client


def _written(profile: GenerationProfile, folder: Path) -> str:
    absent = {"model": "absent"}
    editing = {"editor": "instruct_pix2pix", "num_inference_steps": 1, "guidance_scale": 1.0, **absent}
    whole = {
        "generation": profile.model_dump(),
        "critique": absent,
        "instruction": absent,
        "editing": editing,
        "rewards": {"absent": {"kind": "clip", **absent}},
    }
    path = folder / "profile.yaml"
    path.write_text(yaml.safe_dump(whole))
    return str(path)


def draw(service: httpx2.Client, prompt: str, **changes: object) -> httpx2.Response:
    return service.post("/v1/generate", json={"prompt": prompt, "seed": 0, **changes})


def reads_negative_prompts(service: httpx2.Client) -> bool:
    return "flux" not in str(service.get("/readyz").json()["models"])


def test_a_prompt_is_drawn_alike_in_any_company(profile: GenerationProfile) -> None:
    pipeline = model.load(profile)
    generate = in_full_batches(partial(model.generate, pipeline), profile.max_batch)
    asked = [model.resolved(GenerateRequest(prompt=prompt, seed=0), profile, pipeline) for prompt in PROMPTS]
    (alone,) = generate(asked[:1])
    images = [image.tobytes() for image in generate(asked[::-1])]
    assert (alone.mode, alone.size) == ("RGB", (64, 64))
    assert images[-1] == alone.tobytes()
    assert len(set(images)) == 3


def test_another_autoencoder_is_part_of_who_drew(service: httpx2.Client, profile: GenerationProfile) -> None:
    (drew,) = service.get("/readyz").json()["models"].values()
    assert drew["id"] == Path(profile.model).name + ("+vae" if profile.vae else "")
    assert drew["id"].count("+") == drew["revision"].count("+")


def test_a_negative_prompt_counts_or_is_refused(service: httpx2.Client) -> None:
    answer = draw(service, PROMPTS[0], negative_prompt="blurred")
    if reads_negative_prompts(service):
        assert answer.json()["image"] != draw(service, PROMPTS[0]).json()["image"]
    else:
        assert answer.status_code == 422
        assert answer.json()["fields"][0]["field"] == "negative_prompt"


def test_sides_that_do_not_fit_are_refused_by_name(service: httpx2.Client) -> None:
    answer = draw(service, PROMPTS[0], width=72)
    assert answer.status_code == 422
    assert "width: must be a multiple of 16 pixels for this model, not 72" in answer.json()["detail"]


def test_a_run_of_xl_is_worn_by_xl_alone(service: httpx2.Client) -> None:
    answer = draw(service, PROMPTS[0], adapter=TUNED)
    if reads_negative_prompts(service):
        assert answer.json()["image"] != draw(service, PROMPTS[0]).json()["image"]
        assert answer.json()["model"]["id"].endswith(f"+{TUNED}")
        again = draw(service, PROMPTS[1]).json()["image"]
        assert draw(service, PROMPTS[1], adapter=TUNED).json()["image"] != again
    else:
        assert answer.status_code == 409
        assert "FluxPipeline; leave adapter out" in answer.json()["detail"]


def test_a_run_of_another_base_is_refused_each_time_and_leaves_nothing(service: httpx2.Client) -> None:
    before = draw(service, PROMPTS[2]).json()["image"]
    for seed in (1, 2):
        answer = draw(service, PROMPTS[0], adapter=FOREIGN, seed=seed)
        if reads_negative_prompts(service):
            assert answer.status_code == 500
            assert f"the adapter of {FOREIGN} does not fit this model" in answer.json()["detail"]
        else:
            assert answer.status_code == 409
    steps = {"num_inference_steps": 2, "guidance_scale": 3.0 + 1e-12}  # not what the memo has
    assert draw(service, PROMPTS[2], **steps).json()["image"] == before
