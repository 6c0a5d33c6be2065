"""One HTML file about a job or a run, which needs nothing but itself."""

import asyncio
import re
from pathlib import Path

import pytest

from retouche.client import AsyncRetouche, Retouche
from retouche.contract.evaluation import Comparison, Evaluation
from retouche.contract.runs import RunSpec, TrainingData
from retouche.errors import JobNotFound
from retouche.evaluation import judge
from retouche.report import write_report
from retouche.store import ObjectStore, run, run_path
from tests.trainer import worlds


def report_of(url: str, identifier: str, file: Path) -> str:
    async def write() -> Path:
        async with AsyncRetouche(url) as client:
            return await write_report(client, identifier, file)

    return asyncio.run(write()).read_text()


def test_a_job_with_pictures_distributions_and_decisions(
    gateway_url: str, store: ObjectStore, tmp_path: Path
) -> None:
    job_id = worlds.finished_job(store, shards=1, pairs=5)
    with Retouche(gateway_url) as client:
        pairs = list(client.pairs(job_id))
        client.review(job_id, pairs[0].id, "reject", "Ada <script>")
    page = report_of(gateway_url, job_id, tmp_path / "job.html")
    assert page.count("<img class=chosen") == page.count("<img class=rejected") == 5
    assert "What became of the images" in page
    assert "clip: chosen minus rejected" in page
    assert "reject by Ada &lt;script&gt;" in page
    assert not re.search(r"(src|href)='?https?:", page), "it must not fetch anything"


def test_a_run_with_curves_and_what_was_found_of_it(
    gateway_url: str, store: ObjectStore, tmp_path: Path
) -> None:
    job_id = worlds.finished_job(store, shards=1, pairs=2)
    with Retouche(gateway_url) as client:
        submitted = client.submit_run(RunSpec(data=TrainingData(job=job_id)))
        (image, *_) = [pair.chosen for pair in client.pairs(job_id)]
        lines = [worlds.metrics(step).model_dump_json() + "\n" for step in (1, 2)]
        run(store.put(run_path(submitted.id, "metrics.jsonl"), "".join(lines).encode()))
        compared = [
            Comparison(
                prompt="a red circle",
                seed=0,
                base=image,
                tuned=image,
                base_scores={"clip": 0.25},
                tuned_scores={"clip": 0.5},
            )
        ]
        evaluation = Evaluation(
            run=submitted.id,
            prompts=1,
            images_per_prompt=1,
            seed=0,
            judgements=judge(compared),
            comparisons=compared,
        )
        client.keep_evaluation(evaluation)
    page = report_of(gateway_url, submitted.id, tmp_path / "run.html")
    assert "implicit accuracy 0.75" in page
    assert "+0.2500" in page
    assert f"<h1>{job_id}</h1>" in page


def test_a_job_that_is_not_there(gateway_url: str, tmp_path: Path) -> None:
    with pytest.raises(JobNotFound):
        report_of(gateway_url, "job-0123456789abcdef", tmp_path / "none.html")
    assert not (tmp_path / "none.html").exists()
