"""Images drawn with the LoRA of a training run, named by the request, beside images drawn without."""

import shutil
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx2
import pytest

from retouche.contract.payload import ModelIdentity
from retouche.identity import identify
from retouche.store import ObjectStore, run, run_path
from services.generation.app import create_app
from services.generation.settings import Settings
from shapes.train.loop import MODELS
from tests.services.finished_runs import finish, random_adapter
from tests.services.ready import ready

PROMPT = "a red circle above a blue square on a gray background"
TUNED, OTHER, FULL, RUNNING, ELSEWHERE = (f"run-{digit * 16}" for digit in "abcde")


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> ObjectStore:
    """Two runs have finished with a LoRA, one without, one on another base, and one trains."""
    folder, base = tmp_path_factory.mktemp("lora"), identify(str(MODELS / "base"))
    store = ObjectStore(str(tmp_path_factory.mktemp("store")))
    for seed, run_id in enumerate((TUNED, OTHER)):
        finish(store, run_id, random_adapter(str(MODELS / "base"), folder, seed), base)
    finish(store, FULL, None, base)
    finish(store, ELSEWHERE, None, ModelIdentity(id="another/base", revision="main"))
    run(store.put(run_path(RUNNING, "spec.json"), b"{}"))
    return store


@pytest.fixture(scope="module")
def service(store: ObjectStore) -> Iterator[httpx2.Client]:
    with ready(create_app(Settings(profile="shapes", store=store.url))) as client:
        yield client


def draw(service: httpx2.Client, seed: int, adapter: str | None = None) -> httpx2.Response:
    request = {"prompt": PROMPT, "seed": seed, "num_inference_steps": 4, "adapter": adapter}
    return service.post("/v1/generate", json=request)


def test_requests_with_and_without_adapters_do_not_disturb_each_other(
    store: ObjectStore, service: httpx2.Client, tmp_path: Path
) -> None:
    """Drawn all at once, and one by one, the base last, by a service that remembers none of them."""
    forgetful = shutil.copytree(store.url, tmp_path / "store")
    asked = [(seed, adapter) for seed in range(2) for adapter in (TUNED, OTHER, None)]
    with ThreadPoolExecutor(6) as callers:
        together = list(callers.map(lambda call: draw(service, *call).json()["image"], asked))
    assert len(set(together)) == len(asked)
    with ready(create_app(Settings(profile="shapes", store=str(forgetful)))) as alone:
        assert [draw(alone, seed, adapter).json()["image"] for seed, adapter in asked] == together


def test_an_adapter_leaves_the_base_as_it_was(service: httpx2.Client, tmp_path: Path) -> None:
    draw(service, 20, TUNED)
    after = draw(service, 20).json()["image"]
    with ready(create_app(Settings(profile="shapes", store=str(tmp_path)))) as untouched:
        assert draw(untouched, 20).json()["image"] == after


def test_the_answer_names_the_adapter(service: httpx2.Client) -> None:
    assert draw(service, 0, TUNED).json()["model"]["id"] == f"base+{TUNED}"
    assert draw(service, 0).json()["model"]["id"] == "base"


@pytest.mark.parametrize(
    ("adapter", "status", "says"),
    [
        ("run-" + "0" * 16, 404, "there is no run"),
        (RUNNING, 409, "has not finished"),
        (FULL, 409, "full fine-tuning"),
        (ELSEWHERE, 409, "trained on another/base@main"),
        ("something", 422, "adapter"),
    ],
)
def test_an_adapter_that_cannot_be_worn_is_refused(
    service: httpx2.Client, adapter: str, status: int, says: str
) -> None:
    answer = draw(service, 0, adapter)
    assert (answer.status_code, says in answer.text) == (status, True)
