"""A job as a folder in the layout of Pick-a-Pic: what it holds, and that it is there whole or not at all."""

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import pyarrow.parquet as pq
import pytest
import yaml

from retouche.client import Retouche
from retouche.contract.jobs import PreferencePair
from retouche.contract.reviews import Decision, Reviewed
from retouche.errors import Conflict, ImageNotFound, JobNotFound
from retouche.export.folder import write_folder
from retouche.store import ObjectStore, image_path, run
from tests.trainer import worlds
from trainer.sources.pick_a_pic import folder_pairs


def rows(folder: Path, split: str = "train") -> list[dict[str, Any]]:
    files = sorted(folder.glob(f"data/{split}-*.parquet"))
    return [row for file in files for row in pq.read_table(file).to_pylist()]


def test_a_row_is_a_pair_with_both_images_and_all_that_led_to_it(
    client: Retouche, store: ObjectStore, job_id: str, tmp_path: Path
) -> None:
    write_folder(client, job_id, tmp_path / "pairs")
    pairs, written = list(client.pairs(job_id)), rows(tmp_path / "pairs")
    assert [row["pair_id"] for row in written] == [pair.id for pair in pairs]
    for pair, row in zip(pairs, written, strict=True):
        first = row["label_0"] == 1.0
        assert (row["label_0"], row["label_1"]) in ((1.0, 0.0), (0.0, 1.0))
        assert row["best_image_uid"] == pair.chosen == row["image_0_uid" if first else "image_1_uid"]
        assert row["jpg_0" if first else "jpg_1"] == run(store.get_image(pair.chosen))
        assert row["jpg_1" if first else "jpg_0"] == run(store.get_image(pair.rejected))
        assert (row["caption"], row["instruction"]["text"]) == (pair.prompt, pair.instruction.text)
        assert (row["generation_seed"], row["editing_seed"]) == (pair.generation_seed, pair.editing_seed)
        assert row["editing_model"] == {"id": "test", "revision": "0"}
        assert row["model_0" if first else "model_1"] == str(pair.models.editing)
        assert row["num_example_per_prompt"] == 1
    assert {row["label_0"] for row in written} == {0.0, 1.0}, "which image is the first one says nothing"


def test_scores_stand_beside_the_image_they_are_of(client: Retouche, job_id: str, tmp_path: Path) -> None:
    write_folder(client, job_id, tmp_path / "pairs")
    for row in rows(tmp_path / "pairs"):
        (score,) = row["scores"]
        assert score["reward"] == "clip"
        assert (score["image_0"] > score["image_1"]) == (row["label_0"] == 1.0)


def test_people_have_the_last_word(client: Retouche, job_id: str, tmp_path: Path) -> None:
    accepted, flipped, rejected = [pair.id for pair in client.pairs(job_id)][:3]
    for pair, decision in ((accepted, "accept"), (flipped, "flip"), (rejected, "reject")):
        client.review(job_id, pair, cast(Decision, decision), "Ada")
    write_folder(client, job_id, tmp_path / "pairs", reviewed="only")
    written = {row["pair_id"]: row for row in rows(tmp_path / "pairs")}
    assert set(written) == {accepted, flipped}
    as_curated = {pair.id: pair for pair in client.pairs(job_id)}
    assert written[accepted]["best_image_uid"] == as_curated[accepted].chosen
    assert written[flipped]["best_image_uid"] == as_curated[flipped].rejected
    card = (tmp_path / "pairs" / "README.md").read_text()
    assert "People then reviewed all of these pairs: they accepted 1 and flipped 1." in card


def test_our_own_trainer_reads_the_same_pairs(client: Retouche, job_id: str, tmp_path: Path) -> None:
    write_folder(client, job_id, tmp_path / "pairs")
    read = asyncio.run(folder_pairs(ObjectStore(str(tmp_path / "elsewhere")), str(tmp_path / "pairs")))
    assert read.dropped == {}
    assert [(pair.prompt, pair.chosen, pair.rejected) for pair in read.pairs] == [
        (pair.prompt, pair.chosen, pair.rejected) for pair in client.pairs(job_id)
    ]


def test_a_prompt_is_in_one_split_alone_and_files_are_closed_when_they_are_full(
    client: Retouche, job_id: str, tmp_path: Path
) -> None:
    statistics = write_folder(client, job_id, tmp_path / "pairs", validation=0.3, file_bytes=1)
    train, validation = rows(tmp_path / "pairs"), rows(tmp_path / "pairs", "validation")
    assert statistics.splits == {"train": len(train), "validation": len(validation)}
    assert len(train) + len(validation) == 80
    assert len(validation) > 0
    assert not {row["caption"] for row in train} & {row["caption"] for row in validation}
    names = sorted(file.name for file in (tmp_path / "pairs" / "data").glob("train-*"))
    assert names == [f"train-{index:05d}-of-00003.parquet" for index in range(3)]


def test_the_card_says_where_the_pairs_come_from(client: Retouche, job_id: str, tmp_path: Path) -> None:
    write_folder(client, job_id, tmp_path / "pairs")
    _, front_matter, text = (tmp_path / "pairs" / "README.md").read_text().split("---\n", 2)
    card = yaml.safe_load(front_matter)
    assert card["configs"][0]["data_files"] == [{"split": "train", "path": "data/train-*"}]
    assert card["size_categories"] == ["n<1K"]
    assert job_id in text
    assert "80 pairs of images (80 in `train`) for 80 prompts" in text
    assert "| generation | test@0 |" in text
    assert "| clip | 0.7500 | 0.2500 | 100% |" in text
    assert "recolor 80" in text


class Stopped(Exception):
    """What a Ctrl-C is."""


class StoppedInTheMiddle(Retouche):
    """A client that is stopped while the pairs come."""

    def pairs(self, job_id: str, reviewed: Reviewed = "all") -> Iterator[PreferencePair]:
        for count, pair in enumerate(super().pairs(job_id, reviewed)):
            if count == 50:
                raise Stopped
            yield pair


def test_an_export_that_is_stopped_leaves_nothing(url: str, job_id: str, tmp_path: Path) -> None:
    with StoppedInTheMiddle(url) as client, pytest.raises(Stopped):
        write_folder(client, job_id, tmp_path / "out" / "pairs")
    assert list((tmp_path / "out").iterdir()) == []


def test_an_image_that_is_gone_is_named_and_nothing_is_written(
    client: Retouche, store: ObjectStore, job_id: str, tmp_path: Path
) -> None:
    gone = next(client.pairs(job_id)).rejected
    run(store.delete(image_path(gone)))
    with pytest.raises(ImageNotFound, match=gone):
        write_folder(client, job_id, tmp_path / "out" / "pairs")
    assert list((tmp_path / "out").iterdir()) == []


def test_what_is_there_already_stays(client: Retouche, job_id: str, tmp_path: Path) -> None:
    (tmp_path / "pairs").mkdir()
    with pytest.raises(Conflict, match="is there already"):
        write_folder(client, job_id, tmp_path / "pairs")
    assert list((tmp_path / "pairs").iterdir()) == []


def test_a_job_that_goes_on_or_has_no_pairs_is_no_data_set(
    client: Retouche, store: ObjectStore, tmp_path: Path
) -> None:
    going_on = worlds.submit(store)
    with pytest.raises(Conflict, match="0 of 2 shards"):
        write_folder(client, going_on, tmp_path / "pairs")
    for shard in range(2):
        worlds.finish(store, going_on, shard, pairs=0)
    with pytest.raises(Conflict, match="no preference pairs"):
        write_folder(client, going_on, tmp_path / "pairs")
    with pytest.raises(JobNotFound):
        write_folder(client, "job-" + "0" * 16, tmp_path / "pairs")
    finished = worlds.finished_job(store, shards=1, pairs=1)
    with pytest.raises(Conflict, match=r"all pairs .* set a smaller share aside"):
        write_folder(client, finished, tmp_path / "pairs", validation=1.0)
    assert not (tmp_path / "pairs").exists()
