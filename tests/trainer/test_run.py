"""A training run as its users see it: submitted at the gateway, trained by a process, loaded by diffusers."""

import shutil
import subprocess
import sys
from pathlib import Path

import torch
from diffusers import StableDiffusionPipeline

from retouche.client import Retouche
from retouche.contract.runs import DiffusionRpo, Full
from retouche.store import ObjectStore, run, run_path
from shapes.train.loop import MODELS
from tests.trainer import worlds
from tests.trainer.runs import CHECKOUT, accepted, environment, is_finished, short_run, trainer


def test_a_run_ends_with_a_lora_that_plain_diffusers_loads(
    client: Retouche, store: ObjectStore, redis_url: str, tmp_path: Path
) -> None:
    spec = short_run(worlds.finished_job(store))
    with trainer(store, redis_url, tmp_path / "runs"):
        ended = client.wait_run(client.submit_run(spec).id)
    assert (ended.state, ended.step) == ("finished", 6), ended.error
    assert ended.result is not None
    assert ended.result.pairs == 8
    assert [metrics.step for metrics in client.run_metrics(ended.id)] == [2, 4, 6]
    client.download_artifacts(ended.id, tmp_path / "lora")
    assert ended.result.data_digest in (tmp_path / "lora" / "README.md").read_text()
    assert list((tmp_path / "lora" / "tensorboard").iterdir())
    assert _moved_by_lora(tmp_path / "lora")
    assert not (tmp_path / "runs" / ended.id).exists(), "everything is in the store"


def _moved_by_lora(folder: Path) -> bool:
    """Does a plain pipeline draw something else once it has loaded the LoRA?"""
    pipeline = StableDiffusionPipeline.from_pretrained(MODELS / "base", dtype=torch.float32)
    pipeline.set_progress_bar_config(disable=True)

    def draw() -> torch.Tensor:
        generator = torch.Generator().manual_seed(0)
        prompt = "a red circle on a gray background"
        drawn = pipeline(
            prompt, num_inference_steps=3, generator=generator, output_type="pt", height=64, width=64
        )
        images: torch.Tensor = drawn.images
        return images

    before = draw()
    pipeline.load_lora_weights(folder)
    return not torch.equal(before, draw())


def test_full_fine_tuning_ends_with_a_pipeline(
    client: Retouche, store: ObjectStore, redis_url: str, tmp_path: Path
) -> None:
    spec = short_run(worlds.finished_job(store), Full(), steps=2)
    with trainer(store, redis_url, tmp_path / "runs"):
        ended = client.wait_run(client.submit_run(spec).id)
    assert ended.state == "finished", ended.error
    client.download_artifacts(ended.id, tmp_path / "pipeline")
    assert StableDiffusionPipeline.from_pretrained(tmp_path / "pipeline").unet is not None


def test_a_base_that_is_gone_fails_the_run_with_the_reason(
    client: Retouche, store: ObjectStore, redis_url: str, tmp_path: Path
) -> None:
    spec = short_run(worlds.finished_job(store)).model_copy(update={"base": "nobody/nothing"})
    with trainer(store, redis_url, tmp_path / "runs"):
        ended = client.wait_run(client.submit_run(spec).id)
    assert ended.state == "failed"
    assert "nobody/nothing" in (ended.error or "")
    assert ended.artifacts == []


def test_a_relation_model_that_reads_nothing_fails_the_run_before_anything_is_encoded(
    client: Retouche, store: ObjectStore, redis_url: str, tmp_path: Path
) -> None:
    (tmp_path / "weights").mkdir()
    for name in ("config.json", "model.safetensors"):
        shutil.copy(MODELS / "reward_clip" / name, tmp_path / "weights")
    relative = DiffusionRpo(relation_model=str(tmp_path / "weights"))
    spec = short_run(worlds.finished_job(store)).model_copy(update={"objective": relative})
    with trainer(store, redis_url, tmp_path / "runs"):
        ended = client.wait_run(client.submit_run(spec).id)
    assert ended.state == "failed"
    assert (ended.error or "").startswith("objective.relation_model: ")
    assert not (Path(store.url) / "latents").exists()


def test_a_trainer_that_is_asked_for_one_run_ends_after_it(
    client: Retouche, store: ObjectStore, redis_url: str, tmp_path: Path
) -> None:
    job = worlds.finished_job(store)
    gone = [short_run(job).model_copy(update={"base": f"nobody/nothing-{number}"}) for number in range(2)]
    runs = [client.submit_run(spec).id for spec in gone]
    once = [sys.executable, "-m", "trainer", "--once"]
    subprocess.run(once, env=environment(store, redis_url, tmp_path), cwd=CHECKOUT, check=True, timeout=120)
    assert [client.run(run_id).state for run_id in runs] == ["failed", "queued"]


def test_a_run_whose_folder_cannot_be_removed_has_finished_all_the_same(
    store: ObjectStore, redis_url: str, tmp_path: Path
) -> None:
    """As on NFS, where a lock that is held stays; here the folder is a link."""
    run_id = accepted(store, short_run(worlds.finished_job(store), steps=1))
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "runs").mkdir()
    (tmp_path / "runs" / run_id).symlink_to(tmp_path / "elsewhere")
    command = [sys.executable, "-m", "trainer.run", run_id]
    subprocess.run(command, check=True, cwd=CHECKOUT, env=environment(store, redis_url, tmp_path / "runs"))
    assert is_finished(store, run_id)


def test_a_run_that_was_killed_once_it_had_finished_leaves_no_folder(
    store: ObjectStore, redis_url: str, tmp_path: Path
) -> None:
    run_id = accepted(store, short_run(worlds.finished_job(store)))
    run(store.create(run_path(run_id, "finished.json"), b"{}"))
    (tmp_path / run_id / "checkpoints").mkdir(parents=True)
    command = [sys.executable, "-m", "trainer.run", run_id]
    subprocess.run(command, check=True, cwd=CHECKOUT, env=environment(store, redis_url, tmp_path))
    assert not (tmp_path / run_id).exists()
