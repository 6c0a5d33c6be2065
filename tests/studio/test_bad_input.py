"""What visitors meet when something is wrong: a sentence that says what to do, and nothing typed is lost."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect
from pydantic import SecretStr

from gateway.app import create_app
from retouche.client import Retouche
from retouche.store import ObjectStore
from tests.gateway.conftest import settings_for
from tests.gateway.server import NOTHING_LISTENS
from tests.live import live
from tests.studio.conftest import studio_of

PROMPTS = "a red circle\na blue square"
ADMIN = "an-admin-key-of-32-characters-or-more"


@pytest.fixture
def gateway(store: ObjectStore, redis_url: str) -> Iterator[str]:
    """An open gateway without services and workers."""
    with live(create_app(settings_for(store.url, redis_url))) as url:
        yield url


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


def test_a_job_that_is_gone(gateway: str, visit: Callable[[str], Page]) -> None:
    with studio_of(gateway) as url:
        page = visit(url)
        page.get_by_role("tab", name="Pairs", exact=True).click()

        def ask() -> None:
            page.locator("#pairs-job input").fill("job-0123456789abcdef")
            page.keyboard.press("Enter")

        until_told(page, ask, "#decided", "This job is not there any more")


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


def test_a_decision_needs_a_pair(gateway: str, visit: Callable[[str], Page]) -> None:
    with studio_of(gateway) as url:
        page = visit(url)
        page.get_by_role("tab", name="Pairs", exact=True).click()
        until_told(page, page.locator("#accept").click, "#decided", "Choose a job first")
