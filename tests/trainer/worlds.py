"""A finished job without the services: rendered pictures as images and pairs, in a store of its own."""

import random
from datetime import UTC, datetime
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from retouche.contract.jobs import CurationSpec, JobRecord, JobReport, ModelIdentities, PreferencePair
from retouche.contract.payload import LOCAL, ModelIdentity
from retouche.contract.runs import TrainingMetrics
from retouche.contract.stages import Critique, EditInstruction
from retouche.images import encode
from retouche.pairs import write_pairs
from retouche.store import ObjectStore, job_path, run, shard_path
from retouche.tenancy import own, own_images
from shapes.faults import is_fault_prone, shown_for
from shapes.prompts import prompts_of, train_scenes
from shapes.render import render
from shapes.scene import Scene, random_layout

_MODEL = ModelIdentity(id="test", revision="0")
_MODELS = ModelIdentities(generation=_MODEL, critique=_MODEL, instruction=_MODEL, editing=_MODEL, rewards={})


def submit(store: ObjectStore, shards: int = 2) -> str:
    """Accept a job of so many shards; returns its identifier. None of them is finished."""
    spec = CurationSpec(prompts=("a red circle on a gray background",), seed=shards)
    record = JobRecord(
        id=spec.job_id(LOCAL),
        tenant=LOCAL,
        spec=spec,
        created_at=datetime(2026, 1, 1, tzinfo=UTC),
        prompt_set="sha256:" + "0" * 64,
        prompts=1,
        shards=shards,
    )
    run(own(store, LOCAL, "jobs", record.id))
    run(store.create(job_path(record.id, "spec.json"), record.model_dump_json().encode()))
    return record.id


def finish(store: ObjectStore, job_id: str, shard: int, pairs: int = 4) -> list[PreferencePair]:
    """Finish a shard with pairs of a right picture over one of the base's own faults."""
    rng = random.Random(f"{job_id}:{shard}")
    prone = [scene for scene in train_scenes() if is_fault_prone(scene)]
    made = [_pair(store, rng.choice(prone), rng, shard * 100 + index) for index in range(pairs)]
    run(own_images(store, LOCAL, [image for pair in made for image in (pair.chosen, pair.rejected)]))
    run(store.create(shard_path(job_id, "shards", shard), write_pairs(made, JobReport(pairs=len(made)))))
    return made


def finished_job(store: ObjectStore, shards: int = 2, pairs: int = 4) -> str:
    """A job whose shards are all finished."""
    job_id = submit(store, shards)
    for shard in range(shards):
        finish(store, job_id, shard, pairs)
    return job_id


def metrics(step: int) -> TrainingMetrics:
    """What a run logs at a step."""
    return TrainingMetrics(
        step=step,
        loss=0.6,
        implicit_accuracy=0.75,
        reward_margin=0.1,
        chosen_error=0.02,
        rejected_error=0.03,
        reference_chosen_error=0.021,
        reference_rejected_error=0.029,
        learning_rate=1e-4,
        pairs_per_second=12.0,
    )


def pick_a_pic(folder: Path, store: ObjectStore, **columns: object) -> str:
    """A folder of three labelled rows: the first image better, the second better, a tie."""
    pair = finish(store, submit(store), 0)[0]
    images = [run(store.get_image(image)) for image in (pair.chosen, pair.rejected)]
    table = {
        "jpg_0": [images[0]] * 3,
        "jpg_1": [images[1]] * 3,
        "label_0": [1.0, 0.0, 0.5],
        "label_1": [0.0, 1.0, 0.5],
        "caption": ["a red circle"] * 3,
        "has_label": [True] * 3,
    } | columns
    (folder / "data").mkdir(parents=True)
    kept = {name: values for name, values in table.items() if values is not None}
    pq.write_table(pa.table(kept), folder / "data" / "train-00000-of-00001.parquet")
    return str(folder)


def _pair(store: ObjectStore, scene: Scene, rng: random.Random, index: int) -> PreferencePair:
    layout, wrong = random_layout(scene, rng), scene
    while wrong == scene:
        wrong = shown_for(scene, rng)
    chosen, rejected = (
        run(store.put_image(encode(Image.fromarray(render(shown, layout))))) for shown in (scene, wrong)
    )
    return PreferencePair(
        id=f"pair-{index}",
        prompt=prompts_of(scene)[0],
        chosen=chosen,
        rejected=rejected,
        chosen_is_edit=True,
        critique=Critique(description="a picture", findings=()),
        instruction=EditInstruction(action="recolor", target="the object", text="make it right"),
        chosen_scores={"clip": 0.75},
        rejected_scores={"clip": 0.25},
        models=_MODELS,
        generation_seed=index,
        editing_seed=index,
        prompt_index=index,
        image_index=0,
    )
