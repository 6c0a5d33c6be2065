"""Evaluations are kept beside their run, once each."""

import httpx2
import pytest
from PIL import Image

from retouche.contract.evaluation import Comparison, Evaluation
from retouche.evaluation import judge
from retouche.images import encode


@pytest.fixture
def run_id(gateway: httpx2.Client, tmp_path_factory: pytest.TempPathFactory) -> str:
    spec = {"data": {"pick_a_pic": str(tmp_path_factory.mktemp("pairs"))}}
    return str(gateway.post("/v1/runs", json=spec).json()["id"])


def evaluation(run_id: str, image: str) -> Evaluation:
    compared = [
        Comparison(
            prompt="x",
            seed=seed,
            base=image,
            tuned=image,
            base_scores={"clip": 0.5},
            tuned_scores={"clip": 0.75},
        )
        for seed in range(2)
    ]
    return Evaluation(
        run=run_id, prompts=1, images_per_prompt=2, seed=0, judgements=judge(compared), comparisons=compared
    )


def test_an_evaluation_is_kept_once(gateway: httpx2.Client, run_id: str) -> None:
    picture = encode(Image.new("RGB", (8, 8), "red"))
    found = evaluation(run_id, gateway.post("/v1/images", content=picture).json()["image"])
    for _ in range(2):
        answer = gateway.post(f"/v1/runs/{run_id}/evaluations", json=found.model_dump())
        assert answer.status_code == 201, answer.text
    (kept,) = gateway.get(f"/v1/runs/{run_id}/evaluations").json()
    assert Evaluation.model_validate(kept) == found


def test_a_score_that_is_no_number_is_refused(gateway: httpx2.Client, run_id: str) -> None:
    found = evaluation(run_id, "sha256:" + "a" * 64).model_dump_json().replace("0.75", "1e999")
    address = f"/v1/runs/{run_id}/evaluations"
    answer = gateway.post(address, content=found, headers={"content-type": "application/json"})
    assert answer.status_code == 422
    assert "Input should be a finite number" in answer.json()["detail"]
    assert gateway.get(address).json() == []


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"comparisons": []}, "not as many"),
        ({"prompts": 1_000}, "not as many"),
        ({"judgements": {}}, "scores, base and tuned"),
    ],
)
def test_an_evaluation_with_a_hole_is_refused(
    gateway: httpx2.Client, run_id: str, change: dict[str, object], says: str
) -> None:
    found = evaluation(run_id, "sha256:" + "a" * 64).model_dump() | change
    answer = gateway.post(f"/v1/runs/{run_id}/evaluations", json=found)
    assert (answer.status_code, says in answer.json()["detail"]) == (422, True)


def test_an_evaluation_of_another_run_is_refused(gateway: httpx2.Client, run_id: str) -> None:
    found = evaluation("run-0123456789abcdef", "sha256:" + "a" * 64)
    answer = gateway.post(f"/v1/runs/{run_id}/evaluations", json=found.model_dump())
    assert answer.status_code == 409
    assert "not of" in answer.json()["detail"]


def test_images_that_nobody_has_are_refused(gateway: httpx2.Client, run_id: str) -> None:
    found = evaluation(run_id, "sha256:" + "a" * 64)
    answer = gateway.post(f"/v1/runs/{run_id}/evaluations", json=found.model_dump())
    assert answer.status_code == 404
    assert gateway.get(f"/v1/runs/{run_id}/evaluations").json() == []
