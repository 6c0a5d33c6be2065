"""Training runs at the gateway: submitted once, refused with a reason, followed, cancelled, retried."""

import json
from pathlib import Path

import httpx2
import pytest
import yaml
from fastapi import FastAPI

from gateway.app import create_app
from gateway.settings import Settings
from retouche.coordination import TRAIN_QUEUE
from retouche.profile import load_profile
from retouche.store import ObjectStore, run, run_path
from tests.gateway.server import serve
from tests.trainer import worlds

READ_BY = {"revision", "base", "base_revision"}
METRICS = worlds.metrics(10)


@pytest.fixture
def job(store: ObjectStore) -> str:
    return worlds.finished_job(store)


def submit(gateway: httpx2.Client, **spec: object) -> httpx2.Response:
    return gateway.post("/v1/runs", json=spec)


def test_a_run_is_accepted_once_and_queued(gateway: httpx2.Client, app: FastAPI, job: str) -> None:
    first, second = (submit(gateway, data={"job": job}) for _ in range(2))
    assert (first.status_code, second.status_code) == (201, 200)
    assert first.json() == second.json()
    assert first.json()["state"] == "queued"
    assert app.state.train_queue.name == TRAIN_QUEUE
    assert app.state.train_queue.job_ids == [first.json()["id"]]


def test_what_a_run_leaves_out_the_profile_says(gateway: httpx2.Client, job: str) -> None:
    spec = submit(gateway, data={"job": job}, objective={"name": "diffusion_rpo"}).json()["spec"]
    assert spec["base"] == "shapes/models/base"
    assert spec["objective"]["anchor_weight"] == 200.0
    assert spec["objective"]["relation_model"] == "shapes/models/reward_clip"


@pytest.mark.parametrize("profile", ["sd15", "sdxl", "modern"])
def test_a_relation_model_comes_with_its_revision_and_what_reads_for_it(
    settings: Settings, job: str, profile: str
) -> None:
    with serve(create_app(settings.model_copy(update={"profile": profile}))) as gateway:
        spec = submit(gateway, data={"job": job}, objective={"name": "diffusion_rpo"}).json()["spec"]
    pickscore = load_profile(profile).rewards["pickscore"]
    assert {name: spec["objective"][f"relation_{name}"] for name in ("model", *READ_BY)} == {
        "model": "yuvalkirstain/PickScore_v1"
    } | pickscore.model_dump(include=READ_BY)


def test_the_relation_model_is_the_first_reward_model_that_is_a_clip(
    settings: Settings, job: str, tmp_path: Path
) -> None:
    profile = load_profile("sd15")
    reordered = dict(reversed(profile.rewards.items()))
    assert next(iter(reordered)) == "aesthetic"
    changed = profile.model_copy(update={"rewards": reordered}).model_dump(mode="json")
    (tmp_path / "aesthetic_first.yaml").write_text(yaml.safe_dump(changed, sort_keys=False))
    path = str(tmp_path / "aesthetic_first.yaml")
    with serve(create_app(settings.model_copy(update={"profile": path}))) as gateway:
        spec = submit(gateway, data={"job": job}, objective={"name": "diffusion_rpo"}).json()["spec"]
    assert spec["objective"]["relation_model"] == "yuvalkirstain/PickScore_v1"


def test_the_folders_of_the_profile_may_lie_with_the_trainer_alone(
    settings: Settings, job: str, tmp_path: Path
) -> None:
    profile = Path("deploy/profiles/shapes.yaml").read_text().replace("shapes/models/base", "models/there")
    (tmp_path / "elsewhere.yaml").write_text(profile)
    with serve(
        create_app(settings.model_copy(update={"profile": str(tmp_path / "elsewhere.yaml")}))
    ) as gateway:
        assert submit(gateway, data={"job": job}).json()["spec"]["base"] == "models/there"


@pytest.mark.parametrize(
    ("change", "status", "says"),
    [
        ({"data": {"job": "job-" + "0" * 16}}, 404, "there is no job"),
        ({"base": "shapes/models/nowhere/at/all"}, 422, "no folder"),
        ({"base": "shapes/models/critic"}, 422, "no unet"),
        ({"base": "shapes/" + "x" * 400}, 422, "File name too long"),
        ({"objective": {"name": "ppo"}}, 422, "objective"),
        ({"objective": {"name": "diffusion_rpo", "relation_base": "some/clip"}}, 422, "relation_base"),
        ({"data": {}}, 422, "job"),
        ({"data": {"pick_a_pic": "here", "follow": True}}, 422, "follow"),
        ({"optimisation": {"steps": 0}}, 422, "steps"),
        ({"speed": "high"}, 422, "speed"),
        ({"base": "example/model", "revision": "x" * 201}, 422, "at most 200 characters"),
    ],
)
def test_a_bad_run_is_refused_with_the_field(
    gateway: httpx2.Client, job: str, change: dict[str, object], status: int, says: str
) -> None:
    answer = submit(gateway, **({"data": {"job": job}} | change))
    assert answer.status_code == status
    assert answer.headers["content-type"] == "application/problem+json"
    assert says in answer.text
    assert gateway.get("/v1/runs").json()["runs"] == []


@pytest.mark.parametrize("number", ["Infinity", "1e999", "NaN"])
def test_numbers_that_json_does_not_have_are_refused(gateway: httpx2.Client, job: str, number: str) -> None:
    body = f'{{"data": {{"job": "{job}"}}, "optimisation": {{"max_grad_norm": {number}}}}}'
    answer = gateway.post("/v1/runs", content=body, headers={"content-type": "application/json"})
    assert answer.status_code == 422
    assert "optimisation.max_grad_norm: Input should be a finite number" in answer.json()["detail"]
    assert gateway.get("/v1/runs").json()["runs"] == []


@pytest.mark.parametrize(
    ("config", "says"),
    [
        ('{"prediction_type": "sample"}', "predicts 'sample'"),
        ("[]", "cannot be read"),
        ("{", "cannot be read"),
    ],
)
def test_a_base_whose_scheduler_does_not_do(
    gateway: httpx2.Client, job: str, tmp_path: Path, config: str, says: str
) -> None:
    for part, content in (("unet/config.json", "{}"), ("scheduler/scheduler_config.json", config)):
        (tmp_path / part).parent.mkdir()
        (tmp_path / part).write_text(content)
    answer = submit(gateway, data={"job": job}, base=str(tmp_path))
    assert (answer.status_code, answer.json()["fields"][0]["field"]) == (422, "base")
    assert says in answer.json()["detail"]


def test_an_unfinished_job_needs_follow(gateway: httpx2.Client, store: ObjectStore) -> None:
    unfinished = worlds.submit(store)
    refused = submit(gateway, data={"job": unfinished})
    assert refused.status_code == 409
    assert "data.follow" in refused.json()["detail"]
    assert submit(gateway, data={"job": unfinished, "follow": True}).status_code == 201


def test_a_run_shows_what_it_has_logged_and_made(
    gateway: httpx2.Client, store: ObjectStore, job: str
) -> None:
    run_id = submit(gateway, data={"job": job}).json()["id"]
    run(store.put(run_path(run_id, "metrics.jsonl"), METRICS.model_dump_json().encode() + b"\n"))
    run(store.put(run_path(run_id, "artifacts/tensorboard/events"), b"12345"))
    shown = gateway.get(f"/v1/runs/{run_id}").json()
    assert (shown["state"], shown["step"]) == ("running", 10)
    assert shown["artifacts"] == [{"name": "tensorboard/events", "bytes": 5}]
    assert gateway.get(f"/v1/runs/{run_id}/artifacts/tensorboard/events").content == b"12345"
    assert gateway.get(f"/v1/runs/{run_id}/artifacts/../spec.json").status_code == 404
    assert gateway.get(f"/v1/runs/{run_id}/metrics").text == METRICS.model_dump_json() + "\n"


def test_a_cancelled_run_can_be_retried_and_a_failed_one_says_why(
    gateway: httpx2.Client, store: ObjectStore, job: str
) -> None:
    run_id = submit(gateway, data={"job": job}).json()["id"]
    assert gateway.post(f"/v1/runs/{run_id}/cancel").json()["state"] == "cancelled"
    assert gateway.post(f"/v1/runs/{run_id}/retry").json()["state"] == "queued"
    run(store.put(run_path(run_id, "failed.json"), json.dumps({"error": "the policy collapses"}).encode()))
    shown = gateway.get(f"/v1/runs/{run_id}").json()
    assert (shown["state"], shown["error"]) == ("failed", "the policy collapses")
    assert gateway.post(f"/v1/runs/{run_id}/cancel").status_code == 409


def test_events_end_when_the_run_does(gateway: httpx2.Client, store: ObjectStore, job: str) -> None:
    run_id = submit(gateway, data={"job": job}).json()["id"]
    run(store.put(run_path(run_id, "failed.json"), b'{"error": "no"}'))
    with gateway.stream("GET", f"/v1/runs/{run_id}/events") as answer:
        lines = [line for line in answer.iter_lines() if line.startswith("event:")]
    assert lines == ["event: failed"]


def test_an_unknown_run_is_not_found(gateway: httpx2.Client, folder: Path) -> None:
    for path in ("", "/events", "/artifacts", "/metrics"):
        answer = gateway.get(f"/v1/runs/run-{'0' * 16}{path}")
        assert (answer.status_code, answer.json()["type"]) == (404, "urn:retouche:run-not-found")
    assert not (folder / "runs").exists()
