"""A service remembers what it answered in one manner, and answers anew when the profile asks for another."""

from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
import yaml
from PIL import Image

from retouche.profile import FOLDER, RewardChoice
from services.manner import manner
from tests.live import live
from tests.services.faulty_vlm import MODEL, FaultyServer, good
from tests.services.pictures import data_uri
from tests.services.ready import ready

SERVED = {"model": MODEL, "backend": "openai"}
PICTURE = {"prompt": "a red circle", "image": data_uri(Image.new("RGB", (64, 64), "gray"))}
RECOLOR = {"action": "recolor", "target": "the circle", "text": "make the circle red"}
ONE_STEP = {"seed": 0, "num_inference_steps": 1}
REQUESTS: dict[str, tuple[str, dict[str, Any]]] = {
    "generation": ("/v1/generate", {"prompt": "a red circle", **ONE_STEP}),
    "critique": ("/v1/critique", PICTURE),
    "instruction": ("/v1/instruct", PICTURE | {"critique": {"description": "gray", "findings": []}}),
    "editing": ("/v1/edit", PICTURE | ONE_STEP | {"instruction": RECOLOR}),
    "reward": ("/v1/reward", {"prompt": "a red circle", "images": [PICTURE["image"]]}),
}


def changed(folder: Path, section: str, change: dict[str, Any]) -> str:
    """The shapes profile, critic and instructor behind a server, with one section changed."""
    profile = yaml.safe_load((FOLDER / "shapes.yaml").read_text())
    profile |= {stage: dict(SERVED) for stage in ("critique", "instruction")}
    profile["rewards"] = {"only": profile["rewards"]["clip_contrastive"]}
    (profile["rewards"]["only"] if section == "reward" else profile[section]).update(change)
    path = folder / "profile.yaml"
    path.write_text(yaml.safe_dump(profile))
    return str(path)


@pytest.mark.parametrize(
    ("service", "change"),
    [
        ("generation", {"dtype": "bfloat16"}),
        ("critique", {"max_answer_tokens": 500}),
        ("instruction", {"max_answer_tokens": 500}),
        ("editing", {"text": "{instruction}, please"}),
        ("reward", {"kind": "clipscore"}),
    ],
)
def test_another_manner_is_another_answer(tmp_path: Path, service: str, change: dict[str, Any]) -> None:
    app, settings = (import_module(f"services.{service}.{part}") for part in ("app", "settings"))
    path, request = REQUESTS[service]
    outcomes = []
    with live(FaultyServer({"": [good]}).app) as url:
        for each in ({}, change):
            deployed = {"profile": changed(tmp_path, service, each), "store": str(tmp_path / "store")}
            if service in ("critique", "instruction"):
                deployed["vlm_url"] = f"{url}/v1"
            with ready(app.create_app(settings.Settings(**deployed))) as client:
                for _ in range(2):
                    answer = client.post(path, json=request)
                    assert answer.is_success, answer.text
                    outcomes.append(answer.headers["x-retouche-memo"])
    assert outcomes == ["miss", "hit", "miss", "hit"]


def test_the_precision_is_part_of_every_manner_and_what_changes_no_answer_of_none() -> None:
    choice = RewardChoice(kind="clip", model="a/model")
    half = choice.model_copy(update={"dtype": "float16"})
    assert manner(half, "kind") != manner(choice, "kind")
    assert manner(choice.model_copy(update={"margin": 0.1}), "kind") == manner(choice, "kind")
