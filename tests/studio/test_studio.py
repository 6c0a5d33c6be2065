"""The main way through the studio, in a real browser on a real system: prompts, pairs, decisions, a run."""

import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from retouche.client import Retouche
from retouche.contract.runs import DiffusionDpo, Optimisation, RunSpec, TrainingData
from retouche.local.system import System, running
from shapes.prompts import held_out_prompts
from tests.studio.conftest import studio_of

WAIT = 180_000  # ms for a small job, or a run of a few steps, on a slow machine
PROMPTS = held_out_prompts()[:10]
HALF = re.compile(r"inset\(0px 0px 0px (50|49\.99)")


@pytest.fixture(scope="module")
def system(tmp_path_factory: pytest.TempPathFactory) -> Iterator[System]:
    with running(tmp_path_factory.mktemp("system")) as system:
        yield system


@pytest.fixture(scope="module")
def studio(system: System) -> Iterator[str]:
    with studio_of(system.url) as url:
        yield url


def opened(page: Page, name: str) -> None:
    page.get_by_role("tab", name=name, exact=True).click()


def edited_from(page: Page) -> float:
    """Where the edited image begins to show, in percent of the width."""
    style = page.locator("#slider img").nth(1).get_attribute("style") or ""
    return float(re.findall(r"inset\(0px 0px 0px ([0-9.]+)%", style)[0])


def test_from_prompts_to_a_decision_in_the_export(
    studio: str, system: System, visit: Callable[[str], Page], tmp_path: Path
) -> None:
    page = visit(studio)
    expect(page.locator(".pipeline [data-stage]")).to_have_count(5)

    opened(page, "Jobs")
    page.locator("#prompts textarea").fill("\n".join(PROMPTS))
    page.locator("#submit").click()
    expect(page.locator("#told")).to_contain_text("with 10 prompts")
    row = page.locator("tr[data-job]").first
    expect(row.locator("[data-state=finished]")).to_be_visible(timeout=WAIT)
    job_id = row.get_attribute("data-job")
    assert job_id is not None

    page.locator("#see-pairs").click()
    expect(page.locator(".where")).to_contain_text(re.compile("Pair 1 of [0-9]+ found"), timeout=WAIT)
    with Retouche(system.url) as client:
        first, second, third = list(client.pairs(job_id))[:3]
    expect(page.locator(".facts .prompt")).to_have_text(first.prompt)
    page.locator("#slider img").first.wait_for()

    page.locator("#reviewer input, #reviewer textarea").fill("Ada")
    page.locator(".where").click()  # out of the field: keys are decisions now
    for key, decision in (("a", "accepted"), ("r", "rejected"), ("f", "flipped")):
        page.keyboard.press(key)
        expect(page.locator("#decided")).to_contain_text(decision, timeout=WAIT)
    with Retouche(system.url) as client:
        log = client.reviews(job_id)
        assert [(one.pair, one.decision, one.reviewer) for one in log] == [
            (first.id, "accept", "Ada"),
            (second.id, "reject", "Ada"),
            (third.id, "flip", "Ada"),
        ]

    page.get_by_text("Take them away").click()
    page.locator("#export").click()
    with page.expect_download() as download:
        page.locator("#exported a[download], #exported a").first.click(timeout=WAIT)
    download.value.save_as(tmp_path / "pairs.ndjson")
    written = [json.loads(line) for line in (tmp_path / "pairs.ndjson").read_text().splitlines()]
    decisions = {pair["id"]: pair["review"] and pair["review"]["decision"] for pair in written}
    assert second.id not in decisions
    assert (decisions[first.id], decisions[third.id]) == ("accept", "flip")
    assert next(pair for pair in written if pair["id"] == third.id)["chosen"] == third.rejected


def test_the_slider_moves_by_key_and_by_mouse(studio: str, visit: Callable[[str], Page]) -> None:
    page = visit(studio)
    opened(page, "Pairs")
    expect(page.locator(".where")).to_contain_text("Pair 1 of", timeout=WAIT)
    edited = page.locator("#slider img").nth(1)
    expect(edited).to_have_attribute("style", HALF)
    box = page.locator("#slider .slider-wrap").bounding_box()
    assert box is not None
    across, down = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
    page.mouse.move(across, down)
    page.mouse.down()
    page.mouse.move(across - 150, down, steps=5)
    page.mouse.up()
    assert edited_from(page) < 40
    page.wait_for_timeout(1000)  # Gradio drops a position that comes at the very moment the mouse is let go
    page.keyboard.press("2")
    expect(edited).to_have_attribute("style", HALF)
    page.keyboard.press("1")
    expect(edited).not_to_have_attribute("style", HALF)
    assert edited_from(page) > 60


def test_a_run_is_watched_and_compared(studio: str, system: System, visit: Callable[[str], Page]) -> None:
    with Retouche(system.url) as client:
        job = next(client.jobs())
        how = Optimisation(steps=4, batch_size=2, learning_rate=5e-4, warmup_steps=1, log_every_steps=1)
        run = client.submit_run(
            RunSpec(data=TrainingData(job=job.id), objective=DiffusionDpo(beta=2000), optimisation=how)
        )
    page = visit(studio)
    opened(page, "Runs")
    expect(page.get_by_text(f"{run.id} is ✓ finished")).to_be_visible(timeout=WAIT)
    expect(page.locator("#curves svg[role=img]")).to_have_count(4)
    page.get_by_text("Compare it on prompts of your own").click()
    page.locator("#evaluation-prompts textarea").fill("\n".join(PROMPTS[:2]))
    page.locator("#compare").click()
    expect(page.locator("#evaluation")).to_contain_text("clip_preference", timeout=WAIT)
    expect(page.locator(".sidebyside img")).to_have_count(4)
