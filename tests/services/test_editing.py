"""The editing service: one instruction on one image, the same whatever else is edited at the time."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx2
import pytest
import yaml
from PIL import Image

from retouche.contract.payload import ModelIdentity
from retouche.store import ObjectStore
from services.editing.app import create_app
from services.editing.settings import Settings
from tests.services.finished_runs import finish, random_adapter
from tests.services.pictures import data_uri
from tests.services.ready import ready
from tests.services.small_pipelines import write_controlnet
from tests.services.untrained import untrained_profile

RECOLOR = {"action": "recolor", "target": "the circle", "text": "make the circle red"}
REQUEST = {
    "prompt": "a red circle on a gray background",
    "image": data_uri(Image.new("RGB", (64, 64), "gray")),
    "instruction": RECOLOR,
}


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx2.Client]:
    profile = untrained_profile(tmp_path_factory.mktemp("models"))
    settings = Settings(profile=profile, store=str(tmp_path_factory.mktemp("store")))
    with ready(create_app(settings)) as client:
        yield client


def edit(service: httpx2.Client, seed: int, strength: float = 0.8) -> str:
    # `strength` means nothing to this editor; another value only makes it another request to the memo.
    answer = service.post("/v1/edit", json={**REQUEST, "seed": seed, "strength": strength})
    assert answer.is_success, answer.text
    return str(answer.json()["image"])


def test_a_seed_gives_the_same_bytes_in_any_batch(service: httpx2.Client) -> None:
    alone = edit(service, 0)
    with ThreadPoolExecutor(8) as callers:
        together = list(callers.map(lambda seed: edit(service, seed, strength=0.7), range(8)))
    assert together[0] == alone
    assert len(set(together)) == 8


def test_an_image_that_is_not_stored_is_said_so(service: httpx2.Client) -> None:
    answer = service.post("/v1/edit", json={**REQUEST, "image": "sha256:" + "0" * 64, "seed": 0})
    assert answer.status_code == 404
    assert answer.json()["type"] == "urn:retouche:image-not-found"


@pytest.mark.parametrize("size", [(64, 8), (1100, 64), (4000, 4000)])
def test_an_image_of_an_absurd_size_is_refused(service: httpx2.Client, size: tuple[int, int]) -> None:
    image = data_uri(Image.new("RGB", size, "gray"))
    answer = service.post("/v1/edit", json={**REQUEST, "image": image, "seed": 0})
    assert answer.status_code == 400
    (problem,) = answer.json()["fields"]
    assert problem["field"] == "image"
    assert f"{size[0]} x {size[1]} pixels" in problem["problem"]
    assert "16 to 1024 a side: resize it" in problem["problem"]


def test_base_and_controlnet_are_both_named_and_the_run_on_them(tmp_path: Path) -> None:
    profile = untrained_profile(tmp_path)
    names = yaml.safe_load(Path(profile).read_text())
    controlnet = write_controlnet(tmp_path / "controlnet", names["generation"]["model"])
    names["editing"] |= {"editor": "controlnet_ip2p", "controlnet": controlnet}
    names["editing"]["model"] = names["generation"]["model"]
    Path(profile).write_text(yaml.safe_dump(names))
    settings = Settings(profile=profile, store=str(tmp_path / "store"))
    with ready(create_app(settings)) as client:
        (model,) = client.get("/readyz").json()["models"].values()
        assert model["id"] == "base+controlnet"
        base, on_it = model["revision"].split("+")
        assert base != on_it
        plain = client.post("/v1/edit", json={**REQUEST, "seed": 0}).json()
        assert plain["model"] == model
        store, tuned = ObjectStore(settings.store), "run-" + "c3" * 8
        adapter = random_adapter(names["editing"]["model"], tmp_path / "lora")
        finish(store, tuned, adapter, ModelIdentity.model_validate(model))
        worn = client.post("/v1/edit", json={**REQUEST, "seed": 0, "adapter": tuned}).json()
        assert worn["model"]["id"] == f"base+controlnet+{tuned}"
        assert worn["image"] != plain["image"]


def test_what_is_not_an_image_is_a_bad_image(service: httpx2.Client) -> None:
    answer = service.post("/v1/edit", json={**REQUEST, "image": "data:image/png;base64,AAAA", "seed": 0})
    assert answer.status_code == 400
    assert answer.json()["type"] == "urn:retouche:bad-image"
