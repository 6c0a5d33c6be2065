"""The clients against a real gateway: uploads, pages of any number, downloads that are whole or not there."""

import asyncio
import io
import resource
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx2
import pyarrow.parquet
import pytest
from PIL import Image

from retouche.client import AsyncRetouche, Retouche
from retouche.contract.jobs import CurationSpec, Job
from retouche.contract.pair_search import PairQuery
from retouche.errors import BadImage, BadPrompts
from retouche.store import ObjectStore
from tests.gateway.shards import finish_shard


def png() -> bytes:
    encoded = io.BytesIO()
    Image.new("RGB", (8, 8), "red").save(encoded, "PNG")
    return encoded.getvalue()


def test_an_image_goes_up_and_comes_back(gateway_url: str, tmp_path: Path) -> None:
    file = tmp_path / "red.png"
    file.write_bytes(png())
    with Retouche(gateway_url) as client:
        stored = client.upload_image(file)
        assert (stored.width, stored.height) == (8, 8)
        assert client.upload_image(png()).image == stored.image
        assert Image.open(io.BytesIO(client.image(stored.image))).getpixel((0, 0)) == (255, 0, 0)
        with pytest.raises(BadImage):
            client.upload_image(png()[:40])


def test_prompts_go_up_as_what_their_file_is(gateway_url: str, tmp_path: Path) -> None:
    (tmp_path / "prompts.txt").write_text("a red circle\na blue square\n")
    (tmp_path / "prompts.jsonl").write_text('{"prompt": "a red circle"}\n{"prompt": "a blue square"}\n')
    (tmp_path / "prompts.csv").write_text("prompt\na red circle\na blue square\n")
    with Retouche(gateway_url) as client:
        sets = [client.upload_prompts(tmp_path / f"prompts.{kind}") for kind in ("txt", "jsonl", "csv")]
        assert {known.prompt_set for known in sets} == {sets[0].prompt_set}
        job = client.submit(CurationSpec(prompt_set=sets[0].prompt_set))
        assert job.prompts == 2
        with pytest.raises(BadPrompts, match="there is no file or folder"):
            client.upload_prompts(tmp_path / "nowhere.txt")


def test_pairs_are_found_and_decided_about(gateway_url: str, store: ObjectStore, tmp_path: Path) -> None:
    with Retouche(gateway_url) as client:
        job = client.submit(CurationSpec(prompts=("x",)))
        finish_shard(store, job.id, 0, pairs=3)
        page = client.search_pairs(job.id, PairQuery(text="red", min_margin=0.1, limit=2))
        assert (page.total, len(page.pairs)) == (3, 2)
        last = [client.review(job.id, "0-1", decision, "Ada") for decision in ("reject", "flip")][-1]
        client.review(job.id, "0-2", "reject", "Ada")
        assert client.reviews(job.id, "0-1")[-1] == last
        assert [pair.review for pair in client.pairs(job.id, "not_rejected")] == [None, last]
        file = client.export(job.id, tmp_path / "pairs.parquet", "parquet", "only")
        assert pyarrow.parquet.read_table(file).column("id").to_pylist() == ["0-1"]


def test_pairs_are_read_over_every_page(gateway_url: str, store: ObjectStore) -> None:
    with Retouche(gateway_url) as client:
        job = client.submit(CurationSpec(prompts=("x",) * 65))
        for shard in range(2):
            finish_shard(store, job.id, shard, pairs=120)
        assert [pair.id for pair in client.pairs(job.id)] == [
            f"{shard}-{row}" for shard in range(2) for row in range(120)
        ]
        assert len(list(client.traces(job.id))) == 2
        assert client.wait(job.id).report.pairs == 240


async def listed(url: str, jobs: int) -> tuple[list[Job], list[Job]]:
    """What was submitted, and what the listing then tells."""
    async with AsyncRetouche(url) as client:
        made = [await client.submit(CurationSpec(prompts=("x",), seed=seed)) for seed in range(jobs)]
        return made, [job async for job in client.jobs()]


def test_jobs_are_listed_over_every_page_the_newest_first(gateway_url: str) -> None:
    made, told = asyncio.run(listed(gateway_url, 51))
    assert [job.id for job in told] == [job.id for job in reversed(made)]


def test_an_export_is_a_file_of_all_pairs(gateway_url: str, store: ObjectStore, tmp_path: Path) -> None:
    with Retouche(gateway_url) as client:
        job = client.submit(CurationSpec(prompts=("x",)))
        finish_shard(store, job.id, 0, pairs=3)
        assert len(client.export(job.id, tmp_path / "pairs.ndjson", "ndjson").read_text().splitlines()) == 3
        file = client.export(job.id, tmp_path / "pairs.parquet", "parquet")
    assert pyarrow.parquet.read_table(file).num_rows == 3
    (tmp_path / "plain").touch()
    assert file.stat().st_mode == (tmp_path / "plain").stat().st_mode, "readable to whom other files are"


@contextmanager
def disk_with(most: int) -> Iterator[None]:
    """No file can get more bytes."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (most, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_an_export_that_finds_no_space_leaves_no_file(tmp_path: Path) -> None:
    rows = httpx2.MockTransport(lambda _: httpx2.Response(200, content=b"x" * 2_000))
    with (
        Retouche("http://test", transport=rows) as client,
        disk_with(most=1_000),
        pytest.raises(OSError, match="too large"),
    ):
        client.export("job-0", tmp_path / "pairs.ndjson", "ndjson")
    assert list(tmp_path.iterdir()) == []
