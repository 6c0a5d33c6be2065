"""A finished job without the services: rendered pictures as images and pairs, in a store of its own."""

import random
from datetime import UTC, datetime

from PIL import Image

from retouche.contract.jobs import CurationSpec, JobRecord, JobReport, ModelIdentities, PreferencePair
from retouche.contract.payload import LOCAL, ModelIdentity
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
