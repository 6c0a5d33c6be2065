"""Bad input, whatever it is: a problem with the right status, nothing of the inside told, nothing stored."""

import gzip
import json
from collections.abc import Iterator
from pathlib import Path

import httpx2
import pytest
from redis import Redis

from tests.gateway.tenants import made
from tests.gateway.test_images import bomb

JSON = {"content-type": "application/json"}
JOB: dict[str, object] = {"prompts": ["a red circle"]}
RUN: dict[str, object] = {"data": {"pick_a_pic": "/data"}}
KEY: dict[str, object] = {"tenant": "acme", "scopes": ["read"]}
IMAGE = "sha256:" + "0" * 64
FINDING = {"description": "a circle", "findings": []}
INSTRUCTION = {"action": "recolor", "target": "it", "text": "make it red"}
BODIES: dict[str, dict[str, object]] = {
    "/v1/jobs": JOB,
    "/v1/runs": RUN,
    "/v1/keys": KEY,
    "/v1/generate": {"prompt": "x", "seed": 1},
    "/v1/critique": {"prompt": "x", "image": IMAGE},
    "/v1/instruct": {"prompt": "x", "image": IMAGE, "critique": FINDING},
    "/v1/edit": {"prompt": "x", "image": IMAGE, "instruction": INSTRUCTION, "seed": 1},
    "/v1/reward": {"prompt": "x", "images": [IMAGE]},
    "/v1/distance": {"images": [IMAGE, IMAGE], "reference": [IMAGE, IMAGE]},
}

OF_WORK = (b"rq:job:", b"rq:queue:", b"retouche:next:", b"retouche:once:")


@pytest.fixture
def caller(guarded: httpx2.Client) -> dict[str, str]:
    """A key that may do everything."""
    return made(guarded, "acme", "curate", "train", "read", "services", "admin")


@pytest.fixture
def untouched(caller: dict[str, str], folder: Path, redis_url: str) -> Iterator[None]:
    """Shows that nothing was stored: no object, and nothing of it in Redis."""
    assert caller
    before = sorted(path for path in folder.rglob("*") if path.is_file())
    yield
    assert sorted(path for path in folder.rglob("*") if path.is_file()) == before
    with Redis.from_url(redis_url) as redis:
        assert [key for key in redis.scan_iter() if key.startswith(OF_WORK)] == []


def refused(answer: httpx2.Response, status: int, code: str) -> None:
    assert (answer.status_code, answer.json()["type"]) == (status, f"urn:retouche:{code}"), answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json()["detail"]
    assert len(answer.content) < 5_000
    for inside in ("Traceback", 'File "', ".py"):
        assert inside not in answer.text


def test_every_route_with_a_json_body_is_tried_here(guarded: httpx2.Client) -> None:
    paths = guarded.get("/openapi.json").json()["paths"]
    bodies = [methods.get("post", {}).get("requestBody", {}).get("content", {}) for methods in paths.values()]
    taking = {path for path, body in zip(paths, bodies, strict=True) if "application/json" in body}
    assert {path for path in taking if "{" not in path} == set(BODIES)


@pytest.mark.usefixtures("untouched")
@pytest.mark.parametrize("path", BODIES)
def test_a_body_that_is_not_what_the_route_takes(
    guarded: httpx2.Client, caller: dict[str, str], path: str
) -> None:
    def post(content: bytes, **headers: str) -> httpx2.Response:
        return guarded.post(path, content=content, headers=caller | JSON | headers)

    refused(post(b"{'a'"), 400, "bad-request")
    refused(post(b"\xff\xfe{}"), 400, "bad-request")
    refused(post(b"[" * 100_000), 400, "bad-request")
    refused(post(b'{"seed": ' + b"9" * 10_000 + b"}"), 400, "bad-request")
    refused(post(gzip.compress(b" " * 50_000_000), **{"content-encoding": "gzip"}), 400, "bad-request")
    refused(post(b"[]"), 422, "invalid-payload")
    refused(post(b""), 422, "invalid-payload")
    refused(post(json.dumps(BODIES[path] | {"colour": "red"}).encode()), 422, "invalid-payload")
    refused(guarded.post(path, content=b"x", headers=caller), 422, "invalid-payload")


@pytest.mark.usefixtures("untouched")
@pytest.mark.parametrize("body", ["[%s]", '{"prompts": [%s]}', '{"generation": {"x": [[%s]]}}'])
def test_a_body_of_very_many_values(guarded: httpx2.Client, caller: dict[str, str], body: str) -> None:
    content = body % ",".join(["1"] * 200_001)
    refused(guarded.post("/v1/jobs", content=content, headers=caller | JSON), 413, "payload-too-large")


@pytest.mark.usefixtures("untouched")
@pytest.mark.parametrize("path", [*BODIES, "/v1/images"])
def test_a_body_without_end(guarded: httpx2.Client, caller: dict[str, str], path: str) -> None:
    parts = (b'{"prompt": "' if part == 0 else b"x" * 1_000_000 for part in range(66))
    answer = guarded.post(path, content=parts, headers=caller | JSON)
    refused(answer, 413, "payload-too-large")


@pytest.mark.usefixtures("untouched")
def test_a_decompression_bomb(guarded: httpx2.Client, caller: dict[str, str]) -> None:
    refused(guarded.post("/v1/images", content=bomb(), headers=caller), 400, "bad-image")


@pytest.mark.usefixtures("untouched")
@pytest.mark.parametrize(
    ("path", "payload"),
    [
        ("/v1/jobs", JOB | {"profile": "sdxl"}),
        ("/v1/runs", RUN | {"profile": "sdxl"}),
        ("/v1/jobs", JOB | {"rewards": [{"name": "hpsv2"}]}),
    ],
)
def test_a_profile_that_is_not_deployed(
    guarded: httpx2.Client, caller: dict[str, str], path: str, payload: dict[str, object]
) -> None:
    answer = guarded.post(path, json=payload, headers=caller)
    refused(answer, 422, "invalid-payload")
    assert "'shapes'" in answer.json()["detail"]


@pytest.mark.usefixtures("untouched")
@pytest.mark.parametrize(
    "path",
    [
        "/v1/jobs/..%2F..%2Fkeys",
        "/v1/jobs/job-%00",
        "/v1/jobs/job-XYZ/events",
        "/v1/runs/run-0/metrics",
        "/v1/images/sha256:0",
        "/v1/images/..",
        "/v1/jobs?limit=1000000",
        "/v1/jobs?cursor=../x",
        "/v1/nowhere",
    ],
)
def test_an_address_that_is_none(guarded: httpx2.Client, caller: dict[str, str], path: str) -> None:
    answer = guarded.get(path, headers=caller)
    assert answer.status_code in (404, 422)
    refused(answer, answer.status_code, answer.json()["type"].rsplit(":", 1)[1])
