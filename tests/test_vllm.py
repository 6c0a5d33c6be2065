"""The real vLLM server with the shapes critic: the same numbers, answers and pairs as in this process.

Both decode greedily from the same tokens, pixels and precision. vLLM holds an answer to its schema at every
token; the model in this process writes freely and is checked at the end. So an answer may differ where the
free one leaves the schema on its way (it is refused, or gave a key twice), and where two tokens are as
likely to the last digits of a float. Of 383 answers 3 did, all for the first reason: of a job's
critiques MOST_DIFFERENT may.
"""

import base64
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest
import torch
import yaml
from PIL import Image

from retouche.client import Retouche
from retouche.contract.jobs import CurationSpec, ImageTrace, Job
from retouche.images import encode
from retouche.local.system import System, running
from retouche.profile import FOLDER, load_profile
from services.critique.messages import ask
from services.vlm import local
from services.vlm.chat import Asked
from shapes.prompts import held_out_prompts
from shapes.render import render
from shapes.scene import Item, Placement, Scene
from tests.vllm_server import VllmServer, require_vllm

MODEL = load_profile("shapes").critique.model
SPEC = CurationSpec(prompts=tuple(held_out_prompts()[:16]), seed=5)
MOST_DIFFERENT = 2
SHOWN = render(Scene((Item("blue", "circle"),), "white"), (Placement(32, 32, 26),))
PICTURE = encode(Image.fromarray(SHOWN))
QUESTION = ask("a purple circle on a white background")


@pytest.fixture(scope="module")
def vllm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[VllmServer]:
    require_vllm()
    server = VllmServer(MODEL, tmp_path_factory.mktemp("vllm") / "log")
    server.start()
    try:
        yield server
    finally:
        server.stop()


@pytest.fixture(scope="module")
def system(vllm: VllmServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[System]:
    """The whole system, whose critique and instruction services ask vLLM."""
    folder = tmp_path_factory.mktemp("system")
    profile = yaml.safe_load((FOLDER / "shapes.yaml").read_text())
    for stage in ("critique", "instruction"):
        profile[stage] |= {"backend": "openai", "base_url": f"{vllm.url}/v1"}
    (folder / "vllm.yaml").write_text(yaml.safe_dump(profile))
    with running(folder, str(folder / "vllm.yaml")) as system:
        yield system


@pytest.fixture(scope="module")
def model() -> local.Model:
    profile = load_profile("shapes").critique
    return local.load(MODEL, None, profile.dtype, profile.max_answer_tokens)


def asked_of(vllm: VllmServer, path: str, **parameters: object) -> Any:
    """What vLLM itself answers about QUESTION and PICTURE."""
    url = "data:image/webp;base64," + base64.b64encode(PICTURE).decode()
    body = {"model": MODEL, "messages": QUESTION.messages(url), **parameters}
    return httpx2.post(f"{vllm.url}/{path}", json=body, timeout=60).raise_for_status().json()


def test_both_read_the_same_tokens(vllm: VllmServer, model: local.Model) -> None:
    (ours,) = model.prepare([Asked(QUESTION, PICTURE)])
    assert asked_of(vllm, "tokenize")["tokens"] == ours.tokens.tolist()


def test_both_give_the_first_token_the_same_probabilities(vllm: VllmServer, model: local.Model) -> None:
    """Weights, precision and pixels: a model that sees another picture says another thing about it."""
    answer = asked_of(vllm, "v1/chat/completions", temperature=0, max_tokens=1, logprobs=True, top_logprobs=5)
    theirs = [each["logprob"] for each in answer["choices"][0]["logprobs"]["content"][0]["top_logprobs"]]
    with torch.inference_mode():
        logits_BTV = model.run.model(**model.run.inputs(model.prepare([Asked(QUESTION, PICTURE)]))).logits
    ours = logits_BTV[0, -1].log_softmax(-1).topk(5).values.tolist()
    assert theirs == pytest.approx(ours, abs=1e-3)


def curated(system: System, spec: CurationSpec) -> tuple[Job, list[ImageTrace]]:
    with Retouche(system.url) as client:
        job = client.wait(client.submit(spec).id)
        assert job.state == "finished", job.error
        return job, list(client.traces(job.id))


def test_a_job_comes_to_the_same_pairs_through_vllm(system: System, tmp_path: Path) -> None:
    job, through_vllm = curated(system, SPEC)
    with running(tmp_path) as plain:
        _, in_process = curated(plain, SPEC)
    assert job.report.pairs > 0
    assert job.report.stages["critique"].done == len(through_vllm)
    assert job.report.stages["critique"].remembered == 0
    both = list(zip(through_vllm, in_process, strict=True))
    assert [one.image for one, _ in both] == [other.image for _, other in both]
    same = [(one, other) for one, other in both if one.critique == other.critique]
    assert len(same) >= len(both) - MOST_DIFFERENT
    for one, other in same:
        if one.instructions == other.instructions:
            assert one == other, "edits, scores and what became of them follow from the instructions"


def test_a_server_that_is_killed_in_the_middle_costs_no_image(vllm: VllmServer, system: System) -> None:
    with Retouche(system.url) as client:
        job = client.submit(SPEC.model_copy(update={"seed": 6}))
        _until_criticised(client, job.id)
        vllm.kill()
        vllm.start()
        job = client.wait(job.id)
    assert job.state == "finished", job.error
    assert not {"critique_failed", "instruction_failed"} & set(job.report.dropped)
    assert job.report.pairs > 0


def _until_criticised(client: Retouche, job_id: str) -> None:
    for _ in range(1200):
        if client.job(job_id).report.stages.get("critique"):
            return
        time.sleep(0.05)
    raise AssertionError("no picture was criticised within a minute")
