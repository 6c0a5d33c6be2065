"""What a tenant has, no other sees: not by listing, not by its identifier, not as part of something else."""

from pathlib import Path

import httpx2
import pytest

from retouche.contract.jobs import STARTING_IMAGES, StartingImage
from retouche.store import ObjectStore
from tests.gateway.shards import finish_shard
from tests.gateway.tenants import made, routes
from tests.gateway.test_images import RED, encoded

Key = dict[str, str]

JOB = {"prompts": ["a red circle"]}
RELATIVE = {"name": "diffusion_rpo", "relation_model": "example/clip"}
TEXT = {"content-type": "text/plain"}


@pytest.fixture
def acme(guarded: httpx2.Client) -> Key:
    return made(guarded, "acme", "curate", "train", "read", "services")


@pytest.fixture
def other(guarded: httpx2.Client) -> Key:
    return made(guarded, "other", "curate", "train", "read", "services")


@pytest.fixture
def things(guarded: httpx2.Client, store: ObjectStore, acme: Key) -> dict[str, str]:
    """One of everything that has an identifier, acme's, by the names of the paths' parameters."""
    job = guarded.post("/v1/jobs", json=JOB, headers=acme).json()["id"]
    finish_shard(store, job, 0, pairs=1)
    run = guarded.post("/v1/runs", json={"data": {"job": job}}, headers=acme)
    assert run.status_code == 201, run.text
    prompts = guarded.post("/v1/prompts", content=b"a blue square", headers=acme | TEXT).json()
    image = guarded.post("/v1/images", content=encoded(RED, "PNG"), headers=acme).json()
    return {
        "job_id": job,
        "run_id": run.json()["id"],
        "image": image["image"],
        "prompt_set": prompts["prompt_set"],
        "name": "README.md",
    }


def test_every_identifier_of_another_tenant_is_not_found(
    guarded: httpx2.Client, things: dict[str, str], acme: Key, other: Key
) -> None:
    walked = [route for route in routes(guarded, things) if set(route[1].split("/")) & set(things.values())]
    assert len(walked) > 14
    for method, path in walked:
        answer = guarded.request(method, path, headers=other)
        assert answer.status_code == 404, (method, path, answer.text)
        if method != "HEAD":
            assert answer.headers["content-type"] == "application/problem+json"
            assert "there is no" in answer.json()["detail"] or "not in the store" in answer.json()["detail"]
    for thing in ("job_id", "run_id"):
        kind = thing.removesuffix("_id")
        assert guarded.get(f"/v1/{kind}s/{things[thing]}", headers=acme).status_code == 200
    assert guarded.get(f"/v1/images/{things['image']}", headers=acme).status_code == 200


def test_what_another_tenant_has_is_no_part_of_anything(
    guarded: httpx2.Client, things: dict[str, str], other: Key
) -> None:
    image, run, job = things["image"], things["run_id"], things["job_id"]
    critique = {"description": "a circle", "findings": []}
    instruction = {"action": "recolor", "target": "it", "text": "make it red"}
    own_image = guarded.post("/v1/images", content=encoded(RED.rotate(90, expand=True), "PNG"), headers=other)
    own = own_image.json()["image"]
    asked = [
        ("/v1/jobs", {"prompt_set": things["prompt_set"]}),
        ("/v1/jobs", JOB | {"generation": {"adapter": run}}),
        ("/v1/jobs", JOB | {"editing": {"adapter": run}}),
        ("/v1/runs", {"data": {"job": job}}),
        ("/v1/runs", {"data": {"job": job, "follow": True}}),
        ("/v1/generate", {"prompt": "x", "seed": 1, "adapter": run}),
        ("/v1/critique", {"prompt": "x", "image": image}),
        ("/v1/instruct", {"prompt": "x", "image": image, "critique": critique}),
        ("/v1/edit", {"prompt": "x", "image": image, "instruction": instruction, "seed": 1}),
        ("/v1/edit", {"prompt": "x", "image": own, "instruction": instruction, "seed": 1, "adapter": run}),
        ("/v1/reward", {"prompt": "x", "images": [own, image]}),
        ("/v1/distance", {"images": [own, own], "reference": [own, image]}),
    ]
    for path, payload in asked:
        answer = guarded.post(path, json=payload, headers=other)
        assert answer.status_code == 404, (path, payload, answer.text)
    start = StartingImage(prompt="x", image=image, origin="theirs").model_dump_json(exclude_none=True)
    prompts = other | {"content-type": STARTING_IMAGES}
    assert guarded.post("/v1/prompts", content=start, headers=prompts).status_code == 404
    assert guarded.get("/v1/jobs", headers=other).json()["jobs"] == []
    assert guarded.get("/v1/runs", headers=other).json()["runs"] == []


@pytest.mark.parametrize(
    ("named", "field"),
    [
        ({"data": {"pick_a_pic": "/data/exports/theirs"}}, "data.pick_a_pic"),
        ({"base": "/data/runs/run-0123456789abcdef/artifacts"}, "base"),
        ({"base": "../runs/theirs"}, "base"),
        ({"base": "models/theirs"}, "base"),
        ({"base": "services/reward"}, "base"),
        ({"objective": RELATIVE | {"relation_model": "/data"}}, "objective.relation_model"),
        ({"objective": RELATIVE | {"relation_base": "../theirs"}}, "objective.relation_base"),
    ],
)
def test_folders_that_the_trainer_can_read_are_the_operators_to_name(
    guarded: httpx2.Client, things: dict[str, str], acme: Key, named: dict[str, object], field: str
) -> None:
    run = {"data": {"job": things["job_id"]}} | named
    refused = guarded.post("/v1/runs", json=run, headers=acme)
    assert (refused.status_code, refused.json()["type"]) == (403, "urn:retouche:forbidden")
    assert refused.json()["detail"].startswith(f"{field}: ")
    fine = {"base": "example/model", "objective": {"name": "diffusion_rpo"}}
    hub = guarded.post("/v1/runs", json={"data": {"job": things["job_id"]}} | fine, headers=acme)
    assert hub.status_code == 201, hub.text


def test_the_same_specification_is_another_job_for_another_tenant(
    guarded: httpx2.Client, acme: Key, other: Key
) -> None:
    first = guarded.post("/v1/jobs", json=JOB, headers=acme)
    second = guarded.post("/v1/jobs", json=JOB, headers=other)
    assert (first.status_code, second.status_code) == (201, 201)
    assert first.json()["id"] != second.json()["id"]
    assert guarded.post(f"/v1/jobs/{first.json()['id']}/cancel", headers=acme).json()["state"] == "cancelled"
    assert guarded.get(f"/v1/jobs/{second.json()['id']}", headers=other).json()["state"] == "queued"


def test_the_same_image_is_stored_once_and_seen_by_those_who_have_it(
    guarded: httpx2.Client, folder: Path, acme: Key, other: Key
) -> None:
    """Whoever sends it proves to have it: the digest alone opens nothing."""
    image = guarded.post("/v1/images", content=encoded(RED, "PNG"), headers=acme).json()["image"]
    assert guarded.get(f"/v1/images/{image}", headers=other).status_code == 404
    cached = other | {"if-none-match": f'"{image}"'}
    assert guarded.get(f"/v1/images/{image}", headers=cached).status_code == 404
    assert guarded.post("/v1/images", content=encoded(RED, "WEBP"), headers=other).json()["image"] == image
    assert guarded.get(f"/v1/images/{image}", headers=other).headers["cache-control"].startswith("private")
    assert len(list((folder / "images").rglob("*.webp"))) == 1


def test_a_tenant_with_two_keys_is_one_tenant(guarded: httpx2.Client, acme: Key) -> None:
    job = guarded.post("/v1/jobs", json=JOB, headers=acme).json()["id"]
    second = made(guarded, "acme", "read")
    assert [listed["id"] for listed in guarded.get("/v1/jobs", headers=second).json()["jobs"]] == [job]
