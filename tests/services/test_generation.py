"""The generation service: the same request gives the same image, in whatever company it is drawn."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import httpx2
import pytest

from services.generation.app import create_app
from services.generation.settings import Settings
from tests.services.ready import ready
from tests.services.untrained import untrained_profile

PROMPT = "a red circle above a blue square on a gray background"


@pytest.fixture(scope="module")
def profile(tmp_path_factory: pytest.TempPathFactory) -> str:
    return untrained_profile(tmp_path_factory.mktemp("models"))


@pytest.fixture
def service(profile: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx2.Client]:
    """The service with an empty store, so that nothing is remembered."""
    settings = Settings(profile=profile, store=str(tmp_path_factory.mktemp("store")))
    with ready(create_app(settings)) as client:
        yield client


def draw(service: httpx2.Client, seed: int, prompt: str = PROMPT) -> str:
    answer = service.post("/v1/generate", json={"prompt": prompt, "seed": seed})
    assert answer.is_success, answer.text
    return str(answer.json()["image"])


def drawn_together(service: httpx2.Client, seeds: range) -> list[str]:
    with ThreadPoolExecutor(len(seeds)) as callers:
        return list(callers.map(lambda seed: draw(service, seed), seeds))


@pytest.fixture(scope="module")
def alone(profile: str, tmp_path_factory: pytest.TempPathFactory) -> str:
    """The image of seed 0, asked for alone."""
    settings = Settings(profile=profile, store=str(tmp_path_factory.mktemp("store")))
    with ready(create_app(settings)) as client:
        return draw(client, 0)


@pytest.mark.parametrize("callers", [3, 8])
def test_a_seed_gives_the_same_bytes_in_any_batch(service: httpx2.Client, alone: str, callers: int) -> None:
    images = drawn_together(service, range(callers))
    assert images[0] == alone
    assert len(set(images)) == callers


def test_a_second_time_it_remembers(service: httpx2.Client) -> None:
    request = {"prompt": PROMPT, "seed": 1}
    first, second = (service.post("/v1/generate", json=request) for _ in range(2))
    assert first.json() == second.json()
    assert [answer.headers["x-retouche-memo"] for answer in (first, second)] == ["miss", "hit"]


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"prompt": ""}, "prompt"),
        ({"prompt": "x" * 100_000}, "prompt"),
        ({"width": 72}, "width"),
        ({"height": 1_000_000}, "height"),
        ({"num_inference_steps": 100_000}, "num_inference_steps"),
        ({"seed": -1}, "seed"),
        ({"steps": 3}, "steps"),
    ],
)
def test_what_it_cannot_draw_is_refused_by_its_field(
    service: httpx2.Client, change: dict[str, object], field: str
) -> None:
    answer = service.post("/v1/generate", json={"prompt": PROMPT, "seed": 0, **change})
    assert answer.status_code == 422
    assert answer.json()["fields"][0]["field"] == field
