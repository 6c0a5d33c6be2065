"""What visitors meet when something is wrong: a sentence that says what to do, and nothing typed is lost."""

import io
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from PIL import Image
from playwright.sync_api import Page, expect
from pydantic import SecretStr

from bench.processes import free_port
from gateway.app import create_app
from retouche.client import Retouche
from retouche.contract.jobs import CurationSpec, JobReport
from retouche.pairs import write_pairs
from retouche.store import ObjectStore, run, shard_path
from studio.job_start import MOST_BYTES
from tests.gateway.conftest import settings_for
from tests.gateway.server import NOTHING_LISTENS
from tests.gateway.shards import finish_shard, pair
from tests.live import live
from tests.studio.conftest import studio_of

PROMPTS = "a red circle\na blue square"
ADMIN = "an-admin-key-of-32-characters-or-more"


@pytest.fixture
def guarded(store: ObjectStore, redis_url: str) -> Iterator[str]:
    """A gateway that wants keys."""
    changes = {"require_keys": True, "admin_key": SecretStr(ADMIN)}
    with live(create_app(settings_for(store.url, redis_url).model_copy(update=changes))) as url:
        yield url


def on_jobs(page: Page) -> Page:
    page.get_by_role("tab", name="Jobs", exact=True).click()
    page.locator("#prompts textarea").fill(PROMPTS)
    return page


def submitted(page: Page, told: str) -> None:
    """What is said after a click on Submit; the prompts are still there."""
    page.locator("#submit").click()
    expect(page.locator("#told")).to_contain_text(told)
    assert page.locator("#prompts textarea").input_value() == PROMPTS


def test_the_gateway_is_down(visit: Callable[[str], Page]) -> None:
    with studio_of(NOTHING_LISTENS) as url:
        page = visit(url)
        expect(page.get_by_role("alert").first).to_contain_text("The gateway does not answer")
        submitted(on_jobs(page), "Start it with `retouche up`")


def test_a_key_is_wanted_and_then_revoked(guarded: str, visit: Callable[[str], Page]) -> None:
    with studio_of(guarded) as url, Retouche(guarded, api_key=ADMIN) as admin:
        made = admin.create_key("artists", ["read", "curate"])
        page = on_jobs(visit(url))
        submitted(page, "The gateway does not accept this API key")
        page.locator("#key input").fill(made.key)
        submitted(page, "with 2 prompts")
        admin.revoke_key(made.id)
        until_told(page, page.locator("#submit").click, "#told", "The gateway does not accept this API key")


def until_told(page: Page, act: Callable[[], None], place: str, told: str) -> None:
    """Repeats what a visitor does: a page may still load, a gateway may know a revoked key for seconds."""
    for _ in range(30):
        act()
        page.wait_for_timeout(1000)
        if told in page.locator(place).inner_text():
            return
    raise AssertionError(f"{told!r} was never said, but {page.locator(place).inner_text()!r}")


def gone(page: Page, job_id: str) -> None:
    """Asked for the pairs of that job, the page says that it is not there, or not theirs."""
    page.get_by_role("tab", name="Pairs", exact=True).click()

    def ask() -> None:
        page.locator("#pairs-job input").fill(job_id)
        page.keyboard.press("Enter")

    until_told(page, ask, "#decided", "This job is not there any more")


def test_a_job_that_never_was(gateway: str, visit: Callable[[str], Page]) -> None:
    with studio_of(gateway) as url:
        gone(visit(url), "job-0123456789abcdef")


def test_a_job_of_somebody_else(guarded: str, visit: Callable[[str], Page]) -> None:
    with Retouche(guarded, api_key=ADMIN) as admin:
        ours, theirs = (admin.create_key(name, ["read", "curate"]).key for name in ("artists", "others"))
    with Retouche(guarded, api_key=theirs) as others:
        job = others.submit(CurationSpec(prompts=("x",)))
    with studio_of(guarded) as url:
        page = visit(url)
        page.locator("#key input").fill(ours)
        gone(page, job.id)


def test_a_gateway_that_comes_back_with_an_empty_store(
    store: ObjectStore, redis_url: str, visit: Callable[[str], Page], tmp_path: Path
) -> None:
    """The pair that is open stays on the page, and so does who decides about it."""
    port = free_port()
    with (
        live(create_app(settings_for(store.url, redis_url)), port=port) as gateway,
        Retouche(gateway) as client,
    ):
        job = client.submit(CurationSpec(prompts=("x",)))
        encoded = io.BytesIO()
        Image.new("RGB", (64, 64), "red").save(encoded, "PNG")
        image = client.upload_image(encoded.getvalue()).image
    with ThreadPoolExecutor() as pool:  # Playwright's loop runs in this thread
        pool.submit(finish_shard_of, store, job.id, image).result()
    with studio_of(gateway) as url:
        with live(create_app(settings_for(store.url, redis_url)), port=port):
            page = visit(url)
            page.get_by_role("tab", name="Pairs", exact=True).click()
            expect(page.locator(".where")).to_contain_text("Pair 1 of 1")
            page.locator("#reviewer input, #reviewer textarea").fill("Ada")
        page.locator("#accept").click()
        expect(page.locator("#decided")).to_contain_text("The gateway does not answer")
        with live(create_app(settings_for(str(tmp_path / "empty"), redis_url)), port=port):
            page.locator("#accept").click()
            expect(page.locator("#decided")).to_contain_text("This job is not there any more")
        expect(page.locator(".where")).to_contain_text("Pair 1 of 1")
        expect(page.locator("#reviewer input, #reviewer textarea")).to_have_value("Ada")


def test_a_file_of_the_pairs_of_a_job_that_goes_on(
    gateway: str, store: ObjectStore, visit: Callable[[str], Page]
) -> None:
    """What is finished of it would pass for all of it."""
    with Retouche(gateway) as client:
        job = client.submit(CurationSpec(prompts=("x",) * 65))
    with ThreadPoolExecutor() as pool:  # Playwright's loop runs in this thread
        pool.submit(finish_shard, store, job.id, 0, 1).result()
    with studio_of(gateway) as url:
        page = visit(url)
        page.get_by_role("tab", name="Pairs", exact=True).click()
        page.get_by_text("Take them away").click()
        until_told(page, page.locator("#export").click, "#take-away", "1 of 2 shards")


def finish_shard_of(store: ObjectStore, job_id: str, image: str) -> None:
    """A shard with one pair of that image."""
    shown = pair("only", 0).model_copy(update={"chosen": image, "rejected": image})
    content = write_pairs([shown], JobReport(pairs=1))
    run(store.create(shard_path(job_id, "shards", 0), content))


def test_a_huge_file_is_refused_before_it_is_sent(
    gateway: str, visit: Callable[[str], Page], tmp_path: Path
) -> None:
    with (tmp_path / "huge.txt").open("wb") as file:
        file.truncate(MOST_BYTES + 1)  # on disk it takes no room
    with studio_of(gateway) as url:
        page = on_jobs(visit(url))
        page.locator("#file input[type=file]").set_input_files(tmp_path / "huge.txt")
        expect(page.locator(".too-large")).to_contain_text(
            "huge.txt has 501 MB, and at most 500 MB are taken"
        )
        expect(page.locator(".too-large")).to_contain_text("Split it")
        submitted(page, "with 2 prompts")
        (tmp_path / "small.txt").write_text("a red circle")
        page.locator("#file input[type=file]").set_input_files(tmp_path / "small.txt")
        expect(page.locator(".too-large")).to_be_hidden()


@pytest.mark.parametrize(
    ("names", "told"),
    [
        (["picture.gif"], "picture.gif is neither an image nor a file of prompts"),
        (["a.txt"], "There are prompts without images"),
        (["a.png"], "holds no image; a.png: there is no metadata.jsonl"),
        (["a.parquet", "b.parquet"], "One .parquet file stands alone"),
        (["a.parquet"], "a.parquet"),
    ],
)
def test_uploads_that_are_no_images_with_prompts(
    gateway: str, visit: Callable[[str], Page], tmp_path: Path, names: list[str], told: str
) -> None:
    for name in names:
        (tmp_path / name).write_bytes(b"not what its name says")
    with studio_of(gateway) as url:
        page = visit(url)
        page.get_by_role("tab", name="Jobs", exact=True).click()
        page.get_by_text("Or start from images").click()
        page.locator("#images input[type=file]").set_input_files([tmp_path / name for name in names])
        expect(page.locator("#images")).to_contain_text(names[0].split(".")[0])
        page.locator("#submit").click()
        expect(page.locator("#told")).to_contain_text(told)
        expect(page.locator("#told")).not_to_contain_text("/tmp")


@pytest.mark.parametrize(
    ("name", "content", "told"),
    [
        ("picture.png", b"\x89PNG\r\n\x1a\n", "picture.png is not a file of prompts"),
        ("prompts.txt", b"\xff\xfe\x00\x01" * 100, "UTF-8"),
        ("prompts.txt", b"x" * 3_000_000, "line 1"),
    ],
)
def test_an_upload_that_is_not_prompts(
    gateway: str, visit: Callable[[str], Page], tmp_path: Path, name: str, content: bytes, told: str
) -> None:
    file = tmp_path / name
    file.write_bytes(content)
    with studio_of(gateway) as url:
        page = visit(url)
        page.get_by_role("tab", name="Jobs", exact=True).click()
        page.locator("#file input[type=file]").set_input_files(file)
        expect(page.locator("#file")).to_contain_text(name.split(".")[0])
        page.locator("#submit").click()
        expect(page.locator("#told")).to_contain_text(told)
        expect(page.locator("#told")).not_to_contain_text("/tmp")


def test_a_decision_needs_a_pair(gateway: str, visit: Callable[[str], Page]) -> None:
    with studio_of(gateway) as url:
        page = visit(url)
        page.get_by_role("tab", name="Pairs", exact=True).click()
        until_told(page, page.locator("#accept").click, "#decided", "Choose a job first")
