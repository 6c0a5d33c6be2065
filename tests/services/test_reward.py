"""The reward service: scores of images under a prompt, by each model of the profile."""

import re
from collections.abc import Iterator
from pathlib import Path

import httpx2
import pytest
import torch
import yaml
from PIL import Image

from retouche.contract.stages import DistanceResponse, RewardResponse
from services.reward.app import create_app
from services.reward.settings import Settings
from shapes.train.rewards import CONTRASTIVE, PREFERENCE, build, save
from shapes.train.text import build_tokenizer
from tests.services.pictures import data_uri
from tests.services.ready import ready
from tests.services.untrained import untrained_profile
from tests.until import until

GRAY, RED = (data_uri(Image.new("RGB", (64, 64), color)) for color in ("gray", "red"))
PROMPT = "a red circle on a gray background"


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx2.Client]:
    settings = Settings(
        profile=profile_with_rewards(tmp_path_factory.mktemp("models")),
        store=str(tmp_path_factory.mktemp("store")),
    )
    with ready(create_app(settings)) as client:
        yield client


def profile_with_rewards(folder: Path) -> str:
    path = untrained_profile(folder)
    profile = yaml.safe_load(Path(path).read_text())
    torch.manual_seed(0)
    for name, architecture in (("first", CONTRASTIVE), ("second", PREFERENCE)):
        save(build(architecture, build_tokenizer()), architecture, folder / name)
    profile["rewards"] = {
        "first": {"kind": "clip", "model": str(folder / "first"), "margin": 0.01},
        "second": {"kind": "clip", "model": str(folder / "second")},
    }
    Path(path).write_text(yaml.safe_dump(profile))
    return path


def score(service: httpx2.Client, **request: object) -> RewardResponse:
    answer = service.post("/v1/reward", json={"prompt": PROMPT, **request})
    assert answer.is_success, answer.text
    return RewardResponse.model_validate_json(answer.content)


def test_every_image_is_scored_by_every_model(service: httpx2.Client) -> None:
    response = score(service, images=[GRAY, RED, GRAY])
    assert [set(row) for row in response.scores] == [{"first", "second"}] * 3
    gray, red, again = (row["first"].raw for row in response.scores)
    assert gray == pytest.approx(again, abs=1e-5)
    assert gray != pytest.approx(red, abs=1e-5)


@pytest.mark.parametrize("reward", ["first", "second"])
def test_a_score_is_the_same_to_the_last_bit_in_any_company(service: httpx2.Client, reward: str) -> None:
    sides = [(64, 64)] * 11 + [(97, 64)]  # most need no resizing, until one beside them does
    pictures = [data_uri(Image.new("RGB", size, (20 * shade, 90, 200))) for shade, size in enumerate(sides)]
    alone = [score(service, images=[image], rewards=[reward]).scores[0][reward] for image in pictures]
    together = [row[reward] for row in score(service, images=pictures, rewards=[reward]).scores]
    assert together == alone


def test_only_the_models_named_are_asked(service: httpx2.Client) -> None:
    response = score(service, images=[RED], rewards=["second"])
    assert set(response.scores[0]) == set(response.models) == {"second"}


def test_readiness_tells_the_margins(service: httpx2.Client) -> None:
    assert service.get("/readyz").json()["margins"] == {"first": 0.01, "second": 0.0}


def test_a_model_that_is_not_there_is_refused_by_its_field(service: httpx2.Client) -> None:
    answer = service.post("/v1/reward", json={"prompt": PROMPT, "images": [RED], "rewards": ["third"]})
    assert answer.status_code == 422
    assert answer.json()["fields"][0]["field"] == "rewards"
    assert "first, second" in answer.json()["detail"]


def meter(service: httpx2.Client, name: str) -> float:
    (value,) = re.findall(rf"^{name} (\S+)$", service.get("/metrics").text, re.MULTILINE)
    return float(value)


def test_a_request_that_is_refused_is_not_carried_out(service: httpx2.Client) -> None:
    """One image is not there: the others are not scored for nobody."""
    others = [data_uri(Image.new("RGB", (64, 64), (3, shade, 7))) for shade in range(200)]
    scored_before = meter(service, "retouche_batch_size_sum")
    answer = service.post("/v1/reward", json={"prompt": PROMPT, "images": ["sha256:" + "0" * 64, *others]})
    assert answer.json()["type"] == "urn:retouche:image-not-found"
    until(lambda: meter(service, "retouche_waiting_items") == 0)
    score(service, images=[data_uri(Image.new("RGB", (64, 64), (4, 0, 7)))])  # behind what is at work
    assert meter(service, "retouche_batch_size_sum") - scored_before < 100, "of 400 scores"


def apart(service: httpx2.Client, images: list[str], reference: list[str], **request: object) -> float:
    payload = {"images": images, "reference": reference, **request}
    answer = service.post("/v1/distance", json=payload)
    assert answer.is_success, answer.text
    return DistanceResponse.model_validate_json(answer.content).distance


def test_sets_of_images_are_the_farther_apart_the_more_they_differ(service: httpx2.Client) -> None:
    reds, darker, blues = (
        [data_uri(Image.new("RGB", (64, 64), (red + 5 * shade, 30, blue))) for shade in range(8)]
        for red, blue in ((180, 20), (160, 30), (20, 200))
    )
    assert apart(service, reds, reds[::-1]) == pytest.approx(0, abs=1e-4)
    assert 0 < apart(service, reds, darker) < apart(service, reds, blues)
    assert apart(service, reds, blues, reward="second") != apart(service, reds, blues, reward="first")


def test_a_distance_needs_two_images_and_a_model_with_an_image_space(service: httpx2.Client) -> None:
    one = service.post("/v1/distance", json={"images": [RED], "reference": [RED, GRAY]})
    assert (one.status_code, one.json()["fields"][0]["field"]) == (422, "images")
    third = service.post("/v1/distance", json={"images": [RED, GRAY], "reference": [RED] * 2, "reward": "x"})
    assert (third.status_code, third.json()["fields"][0]["field"]) == (422, "reward")
