"""Images drawn with the LoRA of a training run, named by the request, beside images drawn without."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx2
import pytest
import torch

from retouche.contract.payload import ModelIdentity
from retouche.contract.runs import Lora, RunResult, TrainingMetrics
from retouche.identity import identify
from retouche.store import ObjectStore, run, run_path
from services.generation.app import create_app
from services.generation.settings import Settings
from shapes.train.loop import MODELS
from tests.live import live
from tests.services.pictures import until_ready
from trainer.artifacts import save_adapter
from trainer.policy import load

PROMPT = "a red circle above a blue square on a gray background"
TUNED, OTHER, FULL, RUNNING, ELSEWHERE = (f"run-{digit * 16}" for digit in "abcde")


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx2.Client]:
    """The service over a store in which two runs have finished with a LoRA, one without, and one trains."""
    store = ObjectStore(str(tmp_path_factory.mktemp("store")))
    for seed, run_id in enumerate((TUNED, OTHER)):
        adapter = _random_adapter(tmp_path_factory.mktemp("lora"), seed)
        run(store.put(run_path(run_id, "artifacts/pytorch_lora_weights.safetensors"), adapter))
    base, elsewhere = identify(str(MODELS / "base")), ModelIdentity(id="another/base", revision="main")
    for run_id in (TUNED, OTHER, FULL, ELSEWHERE):
        result = finished(elsewhere if run_id == ELSEWHERE else base)
        run(store.put(run_path(run_id, "finished.json"), result.model_dump_json().encode()))
    for run_id in (TUNED, OTHER, FULL, RUNNING, ELSEWHERE):
        run(store.put(run_path(run_id, "spec.json"), b"{}"))
    settings = Settings(profile="shapes", store=store.url)
    with live(create_app(settings)) as url, httpx2.Client(base_url=url, timeout=60) as client:
        until_ready(client)
        yield client


def _random_adapter(folder: Path, seed: int) -> bytes:
    policy = load(str(MODELS / "base"), Lora(rank=4), seed)
    with torch.no_grad():
        for weight in policy.trainable().values():
            weight.normal_(std=0.3)
    save_adapter(policy, folder)
    return (folder / "pytorch_lora_weights.safetensors").read_bytes()


def finished(base: ModelIdentity) -> RunResult:
    metrics = TrainingMetrics.model_validate(dict.fromkeys(TrainingMetrics.model_fields, 1))
    return RunResult(
        base=base, steps=1, pairs=1, data_digest="sha256:" + "0" * 64, metrics=metrics, seconds=1
    )


def draw(service: httpx2.Client, seed: int, adapter: str | None = None) -> httpx2.Response:
    request = {"prompt": PROMPT, "seed": seed, "num_inference_steps": 4, "adapter": adapter}
    return service.post("/v1/generate", json=request)


def test_requests_with_and_without_adapters_do_not_disturb_each_other(service: httpx2.Client) -> None:
    asked = [(seed, adapter) for seed in range(2) for adapter in (None, TUNED, OTHER)]
    with ThreadPoolExecutor(6) as callers:
        together = list(callers.map(lambda call: draw(service, *call).json()["image"], asked))
    assert len(set(together)) == len(asked)
    alone = [draw(service, seed + 10, adapter).json()["image"] for seed, adapter in asked]
    assert len(set(alone)) == len(asked)
    again = [draw(service, seed, adapter).json()["image"] for seed, adapter in asked]
    assert again == together


def test_an_adapter_leaves_the_base_as_it_was(service: httpx2.Client, tmp_path: Path) -> None:
    after = [draw(service, seed).json()["image"] for seed in (20, 21)]
    settings = Settings(profile="shapes", store=str(tmp_path))
    with live(create_app(settings)) as url, httpx2.Client(base_url=url, timeout=60) as untouched:
        until_ready(untouched)
        assert [draw(untouched, seed).json()["image"] for seed in (20, 21)] == after


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
