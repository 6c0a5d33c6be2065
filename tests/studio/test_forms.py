"""What visitors ask for with the forms is what the gateway is asked for."""

import io
import re
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image
from playwright.sync_api import Locator, Page, expect

from retouche.client import Retouche
from retouche.contract.jobs import CurationSpec, JobRecord, StartingImage
from retouche.contract.runs import DiffusionRpo, Full
from retouche.profile import load_profile
from retouche.store import ObjectStore, job_path, prompt_set_path
from tests.gateway.shards import finish_shard
from tests.studio.conftest import studio_of


def opened(page: Page, tab: str) -> Page:
    page.get_by_role("tab", name=tab, exact=True).click()
    return page


def submitted(page: Page, gateway: str, store: ObjectStore) -> JobRecord:
    """What was asked for, once the page says that it was."""
    page.locator("#submit").click()
    expect(page.locator("#told")).to_contain_text("Watch it in the table")
    with Retouche(gateway) as client:
        job = next(client.jobs())
    return JobRecord.model_validate_json(Path(store.url, job_path(job.id, "spec.json")).read_bytes())


def test_a_job_with_settings_of_its_own(
    gateway: str, store: ObjectStore, visit: Callable[[str], Page]
) -> None:
    margin = load_profile("shapes").rewards["clip_preference"].margin
    with studio_of(gateway) as url:
        page = opened(visit(url), "Jobs")
        page.locator("#prompts textarea").fill("a red circle\n\n a blue square ")
        expect(page.locator("#profile input")).to_have_value("shapes")
        page.get_by_text("How pairs are made").click()
        page.locator("#style textarea, #style input").fill("make it a pencil sketch")
        page.get_by_label(f"clip_preference (margin {margin:g})").check()
        page.get_by_text("How images are drawn").click()
        expect(page.get_by_label("Guidance").first).to_have_attribute("placeholder", "2")
        page.get_by_label("Width in pixels").fill("128")
        spec = submitted(page, gateway, store).spec
    assert (spec.prompts, spec.profile) == (("a red circle", "a blue square"), "shapes")
    assert (spec.style, spec.generation.width) == ("make it a pencil sketch", 128)
    assert [(rule.name, rule.margin) for rule in spec.rewards] == [("clip_preference", margin)]
    assert spec.generation.guidance_scale is None


def test_a_job_by_keyboard_alone(gateway: str, visit: Callable[[str], Page]) -> None:
    with studio_of(gateway) as url:
        page = visit(url)
        focused(page, page.get_by_role("tab", name="Jobs", exact=True))
        page.keyboard.press("Enter")
        page.locator("#prompts textarea").wait_for()
        focused(page, page.locator("#prompts textarea"))
        page.keyboard.type("a red circle")
        focused(page, page.locator("#submit"))
        page.keyboard.press("Enter")
        expect(page.locator("#told")).to_contain_text("with 1 prompts")


def focused(page: Page, wanted: Locator) -> None:
    """Goes on with the tab key until that is focused."""
    for _ in range(40):
        page.keyboard.press("Tab")
        if wanted.evaluate("element => element === document.activeElement"):
            return
    raise AssertionError(f"{wanted} cannot be reached by keyboard")


def picture(color: str) -> bytes:
    encoded = io.BytesIO()
    Image.new("RGB", (64, 64), color).save(encoded, "PNG")
    return encoded.getvalue()


def starting_images(store: ObjectStore, record: JobRecord) -> list[StartingImage]:
    lines = Path(store.url, prompt_set_path(record.prompt_set)).read_bytes().splitlines()
    return [StartingImage.model_validate_json(line) for line in lines]


def test_images_that_exist_already(
    gateway: str, store: ObjectStore, visit: Callable[[str], Page], tmp_path: Path
) -> None:
    (tmp_path / "red.png").write_bytes(picture("red"))
    (tmp_path / "red.txt").write_text("a red wall")
    (tmp_path / "blue.png").write_bytes(picture("blue"))
    with studio_of(gateway) as url:
        page = opened(visit(url), "Jobs")
        page.get_by_text("Or start from images").click()
        page.locator("#images input[type=file]").set_input_files(sorted(tmp_path.glob("*.*")))
        expect(page.locator("#images")).to_contain_text("red")
        (start,) = starting_images(store, submitted(page, gateway, store))
        expect(page.locator("#told")).to_contain_text("1 rows were left out: blue.png: there is no")
    assert (start.prompt, start.problem) == ("a red wall", None)


def test_pairs_of_pick_a_pic(
    gateway: str, store: ObjectStore, visit: Callable[[str], Page], tmp_path: Path
) -> None:
    columns = {"caption": ["a wall"], "label_0": [1.0], "label_1": [0.0]}
    columns |= {"jpg_0": [picture("red")], "jpg_1": [picture("blue")]}
    pq.write_table(pa.table(columns), tmp_path / "pairs.parquet")
    with studio_of(gateway) as url:
        page = opened(visit(url), "Jobs")
        page.get_by_text("Or start from images").click()
        page.locator("#images input[type=file]").set_input_files(tmp_path / "pairs.parquet")
        page.get_by_label("both").check()
        expect(page.locator("#images")).to_contain_text("pairs")
        starts = starting_images(store, submitted(page, gateway, store))
    assert [start.prompt for start in starts] == ["a wall", "a wall"]
    assert "chosen" in starts[0].origin
    assert "rejected" in starts[1].origin


def test_a_run_on_reviewed_pairs_only(gateway: str, store: ObjectStore, visit: Callable[[str], Page]) -> None:
    with Retouche(gateway) as client, studio_of(gateway) as url:
        job = client.submit(CurationSpec(prompts=("x",)))
        with ThreadPoolExecutor() as pool:  # Playwright's loop runs in this thread
            pool.submit(finish_shard, store, job.id, 0, 3).result()
        page = opened(visit(url), "Runs")
        page.get_by_text("Train on a job’s pairs").click()
        expect(page.locator("#run-job input")).to_have_value(re.compile(job.id))
        page.get_by_label("reviewed only: those accepted or flipped").check()
        page.get_by_label("Diffusion-RPO").check()
        page.get_by_label("every weight of the UNet").check()
        page.locator("#run-steps input").fill("0")
        page.locator("#start").click()
        expect(page.locator("#started")).to_contain_text("optimisation steps: Input should be greater than")
        assert page.get_by_label("Diffusion-RPO").is_checked()  # nothing that was chosen is lost
        page.locator("#run-steps input").fill("40")
        page.locator("#start").click()
        expect(page.locator("#started")).to_contain_text("Its curves are below")
        spec = next(client.runs()).spec
    assert (spec.data.job, spec.data.reviewed, spec.optimisation.steps) == (job.id, "only", 40)
    assert isinstance(spec.objective, DiffusionRpo)
    assert spec.tuning == Full()


@pytest.mark.parametrize(
    ("field", "value", "told"),
    [
        ("Width in pixels", "wide", "generation width: Input should be a valid integer"),
        ("Negative prompt", "x" * 2001, "generation negative prompt: String should have at most 2000"),
    ],
)
def test_what_is_out_of_range_is_named_and_stays(
    gateway: str, visit: Callable[[str], Page], field: str, value: str, told: str
) -> None:
    with studio_of(gateway) as url:
        page = opened(visit(url), "Jobs")
        page.locator("#prompts textarea").fill("a red circle")
        page.get_by_text("How images are drawn").click()
        page.get_by_label(field).fill(value)
        page.locator("#submit").click()
        expect(page.locator("#told")).to_contain_text(told)
        assert page.get_by_label(field).input_value() == value
        assert page.locator("#prompts textarea").input_value() == "a red circle"
