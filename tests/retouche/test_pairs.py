"""Shards of pairs and traces: what goes in comes out, equal content is equal bytes, strangers are refused."""

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from retouche.contract.jobs import (
    EditTrace,
    ImageTrace,
    JobReport,
    ModelIdentities,
    PreferencePair,
    StageProgress,
)
from retouche.contract.payload import ModelIdentity
from retouche.contract.stages import Critique, EditInstruction, Finding
from retouche.errors import RetoucheError
from retouche.pairs import read_pairs, read_report, read_traces, write_pairs, write_traces

ORIGINAL, EDIT = "sha256:" + "a" * 64, "sha256:" + "b" * 64
RECOLOR = EditInstruction(action="recolor", target="the circle", text="make the circle red")
CRITIQUE = Critique(
    description="a blue circle", findings=(Finding(aspect="color", subject="the circle", problem="is blue"),)
)


def identity(name: str) -> ModelIdentity:
    return ModelIdentity(id=f"example/{name}", revision="1")


def pair(**changes: object) -> PreferencePair:
    fields: dict[str, object] = {
        "id": "pair-1",
        "prompt": "a red circle",
        "chosen": EDIT,
        "rejected": ORIGINAL,
        "chosen_is_edit": True,
        "critique": CRITIQUE,
        "instruction": RECOLOR,
        "chosen_scores": {"pickscore": 0.25, "aesthetic": 5.5},
        "rejected_scores": {"pickscore": 0.125, "aesthetic": 5.0},
        "models": ModelIdentities(
            generation=identity("base"),
            critique=identity("critic"),
            instruction=identity("critic"),
            editing=identity("editor"),
            rewards={"pickscore": identity("pickscore"), "aesthetic": identity("aesthetic")},
        ),
        "generation_seed": 2**63 - 1,
        "editing_seed": 7,
        "prompt_index": 3,
        "image_index": 0,
    }
    return PreferencePair.model_validate(fields | changes)


def trace(**changes: object) -> ImageTrace:
    edit = EditTrace(instruction=RECOLOR, seed=7, image=EDIT, scores={"pickscore": 0.25}, outcome="pair")
    fields: dict[str, object] = {
        "prompt": "a red circle",
        "prompt_index": 3,
        "image_index": 0,
        "seed": 5,
        "image": ORIGINAL,
        "scores": {"pickscore": 0.125},
        "critique": CRITIQUE,
        "instructions": [RECOLOR],
        "edits": [edit],
    }
    return ImageTrace.model_validate(fields | changes)


def test_a_shard_gives_back_its_pairs_and_its_report() -> None:
    pairs = [pair(), pair(id="pair-2", chosen=ORIGINAL, rejected=EDIT, chosen_is_edit=False)]
    report = JobReport(
        prompts=2,
        images=2,
        pairs=2,
        dropped={"tie": 1},
        stages={"reward": StageProgress(done=4)},
        seconds=1.5,
    )
    shard = write_pairs(pairs, report)
    assert read_pairs(shard) == pairs
    assert read_report(shard) == report


def test_a_shard_gives_back_its_traces_also_of_images_that_never_came_to_be() -> None:
    lost = ImageTrace(
        prompt="x",
        prompt_index=0,
        image_index=1,
        seed=1,
        dropped="generation_failed",
        error="the model raised",
    )
    traces = [trace(), trace(critique=Critique(description="as asked", findings=()), edits=[]), lost]
    assert read_traces(write_traces(traces)) == traces


def test_an_empty_shard_is_a_shard() -> None:
    shard = write_pairs([], JobReport(prompts=64))
    assert read_pairs(shard) == []
    assert read_report(shard).prompts == 64
    assert read_traces(write_traces([])) == []


def test_equal_content_is_equal_bytes_whatever_the_order_of_its_scores() -> None:
    turned = pair(chosen_scores={"aesthetic": 5.5, "pickscore": 0.25})
    assert write_pairs([pair()], JobReport()) == write_pairs([turned], JobReport())


def test_a_researcher_reads_plain_columns() -> None:
    table = pq.read_table(pa.BufferReader(write_pairs([pair()], JobReport(pairs=1))))
    assert table.column("chosen_is_edit").to_pylist() == [True]
    assert table.column("instruction").combine_chunks().field("text").to_pylist() == ["make the circle red"]
    assert table.column("findings").to_pylist()[0][0]["problem"] == "is blue"
    assert dict(table.column("chosen_scores").to_pylist()[0]) == {"pickscore": 0.25, "aesthetic": 5.5}


def test_what_is_no_shard_is_refused_and_said_so() -> None:
    with pytest.raises(RetoucheError, match="not a Parquet file"):
        read_pairs(b"half a file")
    sink = pa.BufferOutputStream()
    pq.write_table(pa.table({"prompt": ["x"]}), sink)
    with pytest.raises(RetoucheError, match="has format none"):
        read_pairs(sink.getvalue().to_pybytes())
    with pytest.raises(RetoucheError, match="has the columns"):
        read_pairs(write_traces([trace()]))
    with pytest.raises(RetoucheError, match="carries no report"):
        read_report(write_traces([trace()]))
