"""What a worker would have written: shards of made-up pairs and traces."""

import asyncio

from retouche.contract.jobs import ImageTrace, JobReport, ModelIdentities, PreferencePair
from retouche.contract.payload import ModelIdentity
from retouche.contract.stages import Critique, EditInstruction, Finding
from retouche.pairs import write_pairs, write_traces
from retouche.store import ObjectStore, shard_path

MODEL = ModelIdentity(id="example/model", revision="1")
ORIGINAL, EDIT = "sha256:" + "a" * 64, "sha256:" + "b" * 64


def pair(identifier: str, prompt_index: int) -> PreferencePair:
    """A pair that differs in its identifier."""
    return PreferencePair(
        id=identifier,
        prompt="a red circle",
        chosen=EDIT,
        rejected=ORIGINAL,
        chosen_is_edit=True,
        critique=Critique(
            description="a blue circle",
            findings=(Finding(aspect="color", subject="the circle", problem="is blue"),),
        ),
        instruction=EditInstruction(action="recolor", target="the circle", text="make the circle red"),
        chosen_scores={"clip": 0.25},
        rejected_scores={"clip": 0.125},
        models=ModelIdentities(
            generation=MODEL, critique=MODEL, instruction=MODEL, editing=MODEL, rewards={"clip": MODEL}
        ),
        generation_seed=1,
        editing_seed=2,
        prompt_index=prompt_index,
        image_index=0,
    )


def finish_shard(store: ObjectStore, job_id: str, shard: int, pairs: int) -> None:
    """Commit a shard of 64 prompts with `pairs` pairs and one image that came to nothing."""
    made = [pair(f"{shard}-{row}", shard * 64 + row) for row in range(pairs)]
    lost = ImageTrace(prompt="x", prompt_index=shard * 64, image_index=0, seed=1, dropped="generation_failed")
    report = JobReport(prompts=64, images=64, pairs=pairs, dropped={"generation_failed": 1}, seconds=1.5)

    async def commit() -> None:
        await store.create(shard_path(job_id, "traces", shard), write_traces([lost]))
        await store.create(shard_path(job_id, "shards", shard), write_pairs(made, report))

    asyncio.run(commit())


def give_up_shard(store: ObjectStore, job_id: str, shard: int, error: str) -> None:
    """Mark a shard as given up."""
    asyncio.run(store.put(shard_path(job_id, "failed", shard), f'{{"error": "{error}"}}'.encode()))
