"""A real Chromium, and the studio of a gateway, as visitors see it."""

import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager

import pytest
from playwright.sync_api import Browser, Page, expect, sync_playwright

from gateway.app import create_app as create_gateway
from retouche.store import ObjectStore
from studio.app import create_app
from studio.settings import Settings
from tests.gateway.conftest import settings_for
from tests.live import live

FLAGS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """Debian's Chromium; its absence skips locally and fails in CI.

    For one module: while Playwright runs, its event loop lets no test of this thread run another.
    """
    expect.set_options(timeout=20_000)
    path = shutil.which("chromium")
    if path is None:
        message = "there is no chromium: apt-get install chromium"
        pytest.fail(message) if os.environ.get("CI") else pytest.skip(message)
    with sync_playwright() as playwright:
        opened = playwright.chromium.launch(executable_path=path, args=FLAGS)
        yield opened
        opened.close()


def studio_of(gateway: str) -> AbstractContextManager[str]:
    """The studio of the gateway at an address, served; its own address."""
    return live(create_app(Settings(url=gateway)))


@pytest.fixture
def gateway(store: ObjectStore, redis_url: str) -> Iterator[str]:
    """An open gateway without services and workers."""
    with live(create_gateway(settings_for(store.url, redis_url))) as url:
        yield url


@pytest.fixture
def visit(browser: Browser) -> Iterator[Callable[[str], Page]]:
    """Opens a page that must have no script errors until the test ends."""
    errors: list[str] = []
    context = browser.new_context(viewport={"width": 1440, "height": 900})
    context.set_default_timeout(60_000)

    def opened(url: str) -> Page:
        page = context.new_page()
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.goto(url)
        page.get_by_role("tab", name="Jobs").wait_for()
        return page

    yield opened
    context.close()
    assert errors == []
