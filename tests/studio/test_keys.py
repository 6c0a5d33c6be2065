"""The keys of the pair browser, pressed as fast as people do who have thousands of pairs to decide."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

from playwright.sync_api import Page, Route, expect

from retouche.client import Retouche
from retouche.store import ObjectStore
from tests.studio.conftest import studio_of
from tests.trainer import worlds

ANSWERS = "**/queue/data*"


def on_pairs(page: Page) -> Page:
    page.get_by_role("tab", name="Pairs", exact=True).click()
    expect(page.locator(".where")).to_contain_text("Pair 1 of")
    page.locator("#reviewer input, #reviewer textarea").fill("Ada")
    page.locator(".where").click()  # out of the field: keys are decisions now
    return page


def test_a_key_pressed_before_the_next_pair_is_there_decides_nothing(
    store: ObjectStore, gateway: str, visit: Callable[[str], Page]
) -> None:
    with ThreadPoolExecutor() as pool:  # Playwright's loop runs in this thread
        job_id = pool.submit(worlds.finished_job, store).result()
    with studio_of(gateway) as studio, Retouche(gateway) as client:
        first, second, *_ = client.pairs(job_id)
        page = on_pairs(visit(studio))

        held: list[Route] = []
        page.route(ANSWERS, lambda route: held.append(route))
        with page.expect_request(ANSWERS):
            page.keyboard.press("a")
        page.keyboard.press("r")
        held[0].continue_()
        page.unroute(ANSWERS)
        expect(page.locator("#decided")).to_contain_text("accepted")

        page.keyboard.press("f")
        expect(page.locator("#decided")).to_contain_text("flipped")
        log = [(one.pair, one.decision) for one in client.reviews(job_id)]
        assert log == [(first.id, "accept"), (second.id, "flip")]
