"""What the trainer reads: jobs and Pick-a-Pic folders, encoded once."""

import shutil
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pytest
import torch
from PIL import Image

from retouche.contract.runs import TrainingData
from retouche.errors import BadRequest, Conflict, ImageNotFound, JobNotFound
from retouche.images import decode, encode
from retouche.reviews import record_review
from retouche.store import ObjectStore, image_path, run
from shapes.train.loop import MODELS
from tests.trainer import worlds
from trainer.batches import Draw, draws, in_epochs
from trainer.encode import Encoding, encode_pairs
from trainer.encoded import EncodedPairs
from trainer.encoders import Encoders, RelationModel
from trainer.pairs import TrainingPair
from trainer.sources.dataset import finished_pairs
from trainer.sources.pick_a_pic import folder_pairs

BASE = str(MODELS / "base")


def encoding(relations: bool = False) -> Encoding:
    return Encoding(Encoders(BASE), RelationModel(str(MODELS / "reward_clip")) if relations else None)


def test_a_finished_job_becomes_batches(store: ObjectStore) -> None:
    pairs = run(finished_pairs(store, worlds.finished_job(store)))
    encode_pairs(store, encoding(relations=True), pairs)
    data = EncodedPairs(store, encoding(relations=True), pairs, seed=0)
    batch = data.batch(draws(data, TrainingData(job="job-" + "0" * 16), 0, range(3)))
    assert batch.chosen_latents_BCHW.shape == batch.rejected_latents_BCHW.shape == (3, 8, 8, 8)
    assert batch.prompt_embeddings_BLD.shape[0] == 3
    assert batch.chosen_relation_BE is not None
    assert torch.allclose(batch.chosen_relation_BE.norm(dim=-1), torch.ones(3))


def test_latents_are_those_that_the_base_decodes_to_the_picture(store: ObjectStore) -> None:
    pairs = run(finished_pairs(store, worlds.finished_job(store)))[:1]
    parts = encoding()
    encode_pairs(store, parts, pairs)
    data = EncodedPairs(store, parts, pairs, seed=0)
    batch = data.batch(draws(data, TrainingData(job="job-" + "0" * 16), 0, range(1)))
    vae = parts.encoders._vae
    pixels = (vae.decode(batch.chosen_latents_BCHW / vae.config.scaling_factor).sample[0] + 1) * 127.5
    original = torch.tensor(list(decode(run(store.get_image(pairs[0].chosen))).tobytes())).reshape(64, 64, 3)
    assert (pixels.permute(1, 2, 0) - original).abs().mean() < 8


def test_what_was_encoded_once_needs_no_model_again(store: ObjectStore) -> None:
    pairs = run(finished_pairs(store, worlds.finished_job(store)))
    encode_pairs(store, encoding(relations=True), pairs, flips=True)
    again = encoding(relations=True)
    told: list[tuple[int, int]] = []
    encode_pairs(store, again, pairs, flips=True, told=lambda done, total: told.append((done, total)))
    assert told == []
    assert "_vae" not in vars(again.encoders)
    assert "_text_encoders" not in vars(again.encoders)


def test_what_is_encoded_is_the_same_to_the_last_bit_in_any_company(
    store: ObjectStore, tmp_path: Path
) -> None:
    """So a run that was killed while it encoded goes on with what it would have had."""
    pairs = run(finished_pairs(store, worlds.finished_job(store, shards=1, pairs=9)))
    kinds = ("latents", "embeddings", "relations")

    def encoded(name: str, *parts: list[TrainingPair]) -> dict[str, bytes]:
        folder = Path(shutil.copytree(store.url, tmp_path / name))
        for part in parts:
            encode_pairs(ObjectStore(str(folder)), encoding(relations=True), part)
        files = [file for kind in kinds for file in (folder / kind).rglob("*.safetensors")]
        return {str(file.relative_to(folder)): file.read_bytes() for file in files}

    assert encoded("together", pairs) == encoded("apart", pairs[:2], pairs)


def test_models_that_have_been_given_back_are_loaded_again_when_they_are_needed(store: ObjectStore) -> None:
    pairs = run(finished_pairs(store, worlds.finished_job(store)))
    parts = encoding(relations=True)
    encode_pairs(store, parts, pairs[:2])
    parts.unload()
    assert not {"_vae", "_text_encoders"} & vars(parts.encoders).keys()
    assert "_clip" not in vars(parts.relations)
    encode_pairs(store, parts, pairs)
    assert len(EncodedPairs(store, parts, pairs, seed=0).batch([Draw(len(pairs) - 1, False, False, 0)])) == 1


def test_a_flip_mirrors_both_images_and_an_empty_prompt_is_the_empty_one(store: ObjectStore) -> None:
    pairs = run(finished_pairs(store, worlds.finished_job(store)))
    encode_pairs(store, encoding(), pairs, flips=True)
    data = EncodedPairs(store, encoding(), pairs, seed=0)
    asked = TrainingData(job="job-" + "0" * 16, horizontal_flips=True, empty_prompt_share=0.5)
    drawn = draws(data, asked, 0, range(32))
    assert {draw.flipped for draw in drawn} == {draw.empty_prompt for draw in drawn} == {False, True}
    same_pair = [draw for draw in drawn if draw.pair == drawn[0].pair]
    plain = next((draw for draw in drawn if not draw.flipped), drawn[0])
    assert same_pair
    mirrored = type(plain)(plain.pair, True, plain.empty_prompt, plain.position)
    one, other = data.batch([plain]), data.batch([mirrored])
    assert not torch.equal(one.chosen_latents_BCHW, other.chosen_latents_BCHW)
    assert not torch.equal(one.rejected_latents_BCHW, other.rejected_latents_BCHW)


def test_every_epoch_has_every_pair_once_and_an_order_of_its_own() -> None:
    first, second = in_epochs(10, 7, range(10)), in_epochs(10, 7, range(10, 20))
    assert sorted(first) == sorted(second) == list(range(10))
    assert first != second
    assert in_epochs(10, 7, range(5, 15)) == first[5:] + second[:5]


def test_an_unfinished_or_unknown_job_is_refused_by_name(store: ObjectStore) -> None:
    job_id = worlds.submit(store, shards=2)
    worlds.finish(store, job_id, 0)
    with pytest.raises(Conflict, match=r"shard 2 of 2 .* not finished"):
        run(finished_pairs(store, job_id))
    with pytest.raises(JobNotFound, match="job-none"):
        run(finished_pairs(store, "job-none"))


def test_a_pair_whose_image_is_gone_is_named(store: ObjectStore) -> None:
    pairs = run(finished_pairs(store, worlds.finished_job(store)))
    run(store.delete(image_path(pairs[2].chosen)))
    with pytest.raises(ImageNotFound, match=pairs[2].id):
        encode_pairs(store, encoding(), pairs)


def test_a_pair_without_both_images_or_with_one_twice_is_refused_before_a_model_is_loaded(
    store: ObjectStore,
) -> None:
    pairs = run(finished_pairs(store, worlds.finished_job(store)))
    tie = TrainingPair("tied", "a red circle", pairs[0].chosen, pairs[0].chosen)
    run(store.delete(image_path(pairs[-1].rejected)))
    for wrong, error in ((pairs, ImageNotFound), ([pairs[0], tie], Conflict)):
        parts = encoding()
        with pytest.raises(error, match=wrong[-1].id):
            encode_pairs(store, parts, wrong)
        assert not {"_vae", "_text_encoders"} & vars(parts.encoders).keys()


def test_mirrored_latents_are_those_of_the_mirrored_pictures(store: ObjectStore) -> None:
    pairs = run(finished_pairs(store, worlds.finished_job(store)))[:1]
    encode_pairs(store, encoding(), pairs, flips=True)
    batch = EncodedPairs(store, encoding(), pairs, seed=0).batch([Draw(0, True, False, 0)])
    for latents, image in (
        (batch.chosen_latents_BCHW[0], pairs[0].chosen),
        (batch.rejected_latents_BCHW[0], pairs[0].rejected),
    ):
        mirrored = decode(run(store.get_image(image))).transpose(Image.Transpose.FLIP_LEFT_RIGHT)
        assert torch.allclose(latents, Encoders(BASE).encode([mirrored])[0]["latents"], atol=1e-4)


def test_a_pick_a_pic_folder_gives_pairs_and_drops_ties(tmp_path: Path, store: ObjectStore) -> None:
    imported = run(folder_pairs(store, worlds.pick_a_pic(tmp_path / "some_pickapic", store)))
    first, second = imported.pairs
    assert (first.chosen, first.rejected) == (second.rejected, second.chosen)
    assert imported.dropped == {"tie": 1}
    encode_pairs(store, encoding(), imported.pairs)


def test_a_damaged_image_is_counted_and_named_and_the_rest_goes_on(
    tmp_path: Path, store: ObjectStore
) -> None:
    red = encode(Image.new("RGB", (64, 64), "red"))
    folder = worlds.pick_a_pic(tmp_path / "some_pickapic", store, jpg_0=[b"not an image", red, red])
    imported = run(folder_pairs(store, folder))
    assert (len(imported.pairs), imported.dropped) == (1, {"unreadable_image": 1, "tie": 1})
    assert imported.unreadable[0].startswith("train-00000-of-00001.parquet row 1: ")


def test_a_folder_of_damaged_images_is_refused(tmp_path: Path, store: ObjectStore) -> None:
    folder = worlds.pick_a_pic(tmp_path / "some_pickapic", store, jpg_0=[b"not an image"] * 3)
    with pytest.raises(BadRequest, match="unreadable_image"):
        run(folder_pairs(store, folder))


def test_a_folder_without_a_column_is_refused_with_its_name(tmp_path: Path, store: ObjectStore) -> None:
    with pytest.raises(BadRequest, match="'caption'"):
        run(folder_pairs(store, worlds.pick_a_pic(tmp_path / "some_pickapic", store, caption=None)))
    with pytest.raises(BadRequest, match="no data/train"):
        run(folder_pairs(store, str(tmp_path)))


def test_a_column_of_another_type_is_refused_with_its_name(tmp_path: Path, store: ObjectStore) -> None:
    with pytest.raises(BadRequest, match="'label_0'"):
        run(folder_pairs(store, worlds.pick_a_pic(tmp_path / "text", store, label_0=["yes", "no", "no"])))
    wrapped = [{"bytes": b"x", "path": "x"}] * 3
    with pytest.raises(BadRequest, match=r"'jpg_1'.*binary"):
        run(folder_pairs(store, worlds.pick_a_pic(tmp_path / "image", store, jpg_1=wrapped)))


def test_rows_that_prefer_neither_image_are_dropped_and_counted(tmp_path: Path, store: ObjectStore) -> None:
    columns = {
        "label_0": pa.array([1.0, float("nan"), 1.0]),
        "label_1": pa.array([0.0, 1.0, 0.0]),
        "are_different": [True, True, False],
    }
    imported = run(folder_pairs(store, worlds.pick_a_pic(tmp_path / "some_pickapic", store, **columns)))
    assert len(imported.pairs) == 1
    assert imported.dropped == {"no_label": 1, "same_image": 1}


@pytest.mark.parametrize("size", [(192, 64), (64, 80)], ids=["wide", "tall"])
def test_of_an_image_of_another_shape_the_middle_is_seen(size: tuple[int, int]) -> None:
    red = Image.new("RGB", (64, 64), "red")
    image = Image.new("RGB", size, "blue")
    image.paste(red, ((size[0] - 64) // 2, (size[1] - 64) // 2))
    middle, alone = Encoders(BASE).encode([image, red])
    assert torch.equal(middle["latents"], alone["latents"])


def test_an_image_of_another_size_is_scaled_to_that_of_the_base() -> None:
    small, large = Encoders(BASE).encode([Image.new("RGB", size, "red") for size in ((64, 64), (90, 50))])
    assert torch.allclose(small["latents"], large["latents"], atol=1e-4)


def test_people_have_the_last_word_about_what_is_trained_on(store: ObjectStore) -> None:
    job_id = worlds.finished_job(store, shards=1, pairs=3)
    kept, flipped, rejected = run(finished_pairs(store, job_id))
    run(record_review(store, job_id, kept.id, "accept", "Ada"))
    last = run(record_review(store, job_id, flipped.id, "flip", "Ada"))
    swapped = replace(flipped, chosen=flipped.rejected, rejected=flipped.chosen)
    assert run(finished_pairs(store, job_id, "only")) == [kept, swapped]
    run(record_review(store, job_id, rejected.id, "reject", "Ada"))
    assert run(finished_pairs(store, job_id, "not_rejected")) == [kept, swapped]
    assert run(finished_pairs(store, job_id, "not_rejected", until=last.at)) == [kept, swapped, rejected]
    assert run(finished_pairs(store, job_id)) == [kept, flipped, rejected]


def test_a_job_of_which_no_pair_is_left_is_refused(store: ObjectStore) -> None:
    job_id = worlds.finished_job(store, shards=1, pairs=2)
    with pytest.raises(Conflict, match="none is left by 'only'; review some"):
        run(finished_pairs(store, job_id, "only"))
