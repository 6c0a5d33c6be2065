"""The reward service with all five published models at once, and with one that is not what it should be."""

from collections.abc import Iterator
from pathlib import Path

import httpx2
import pytest
import yaml
from safetensors.torch import save_file

from retouche.contract.stages import RewardResponse
from services.reward.app import create_app
from services.reward.settings import Settings
from tests.live import live
from tests.services.pictures import data_uri
from tests.services.published import (
    EMBEDDING,
    PROMPTS,
    bert_tokenizer,
    clip_shapes,
    image_reward_shapes,
    linear_head_shapes,
    open_clip_shapes,
    pictures,
    random_weights,
    write_clip,
    write_clip_base,
    write_image_reward,
    write_weights,
)
from tests.services.ready import ready, until_ready
from tests.services.untrained import untrained_profile

KINDS = {"aesthetic", "clipscore", "hpsv2", "imagereward", "pickscore"}


def write_rewards(folder: Path) -> dict[str, dict[str, str]]:
    """Checkpoints at a reduced width, each with its base, and how a profile names them."""
    weights = random_weights(clip_shapes())
    base = str(write_clip_base(folder / "clip-base", "gelu"))
    bert_tokenizer().save_pretrained(folder / "bert")
    clip = write_clip(write_clip_base(folder / "clip", "quick_gelu"), weights, "quick_gelu")
    head = write_weights(folder / "linearMSE", random_weights(linear_head_shapes(EMBEDDING)))
    hps = write_weights(folder / "HPSv2", random_weights(open_clip_shapes()))
    blip = write_image_reward(folder / "ImageReward", random_weights(image_reward_shapes()))
    return {
        "pickscore": {"model": write_clip(folder / "PickScore", weights), "base": base},
        "clipscore": {"model": clip},
        "aesthetic": {"model": str(head), "base": clip},
        "hpsv2": {"model": str(hps), "base": base},
        "imagereward": {"model": blip, "base": str(folder / "bert")},
    }


def write_profile(folder: Path, rewards: dict[str, dict[str, str]]) -> str:
    path = untrained_profile(folder)
    profile = yaml.safe_load(Path(path).read_text())
    profile["rewards"] = {kind: {"kind": kind, **choice} for kind, choice in rewards.items()}
    Path(path).write_text(yaml.safe_dump(profile))
    return path


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx2.Client]:
    folder = tmp_path_factory.mktemp("models")
    profile = write_profile(folder, write_rewards(folder))
    settings = Settings(profile=profile, store=str(tmp_path_factory.mktemp("store")))
    with ready(create_app(settings)) as client:
        yield client


def test_every_published_model_scores_every_picture(service: httpx2.Client) -> None:
    images = [data_uri(picture) for picture in pictures()]
    answer = service.post("/v1/reward", json={"prompt": PROMPTS[0], "images": images})
    assert answer.is_success, answer.text
    rows = RewardResponse.model_validate_json(answer.content).scores
    assert [set(row) for row in rows] == [KINDS] * len(images)
    for kind in KINDS:
        assert len({row[kind].raw for row in rows}) == len(images)
    assert rows[0]["hpsv2"].published == pytest.approx(100 * rows[0]["hpsv2"].raw, abs=1e-4)


def test_who_scored_tells_the_weights_and_what_they_came_without(service: httpx2.Client) -> None:
    models = service.get("/readyz").json()["models"]
    assert models["aesthetic"]["id"] == "linearMSE+clip"
    assert models["clipscore"]["id"] == "clip"
    assert models["aesthetic"]["revision"].endswith(f"+{models['clipscore']['revision']}")


def test_a_checkpoint_of_another_model_is_named_before_anything_is_served(tmp_path: Path) -> None:
    rewards = write_rewards(tmp_path)
    save_file(random_weights(clip_shapes()), Path(rewards["imagereward"]["model"]) / "model.safetensors")
    settings = Settings(profile=write_profile(tmp_path, rewards), store=str(tmp_path / "store"))
    with live(create_app(settings)) as url, httpx2.Client(base_url=url, timeout=60) as client:
        with pytest.raises(AssertionError, match="does not hold the tensors of ImageReward: 108 missing"):
            until_ready(client)
        refused = client.post("/v1/reward", json={"prompt": "a", "images": [data_uri(pictures()[0])]})
        assert refused.status_code == 503
        assert "blip.text_encoder.embeddings.LayerNorm.bias" in refused.json()["detail"]
