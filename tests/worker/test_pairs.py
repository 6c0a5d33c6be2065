"""The pairs of one image: what each carries."""

from retouche.contract.jobs import CurationSpec, EditTrace, ImageTrace
from retouche.contract.payload import ModelIdentity
from retouche.contract.stages import EditInstruction
from retouche.store import digest
from worker.pairs import Makers, pairs_of

BEFORE, AFTER = ModelIdentity(id="editor", revision="1"), ModelIdentity(id="editor", revision="2")
JUDGE = ModelIdentity(id="judge", revision="1")
INSTRUCTION = EditInstruction(action="recolor", target="the square", text="make it red")


def edited(seed: int, picture: int | None = None) -> EditTrace:
    """Judged by its picture, which is the seed's own if none is named."""
    shown = seed if picture is None else picture
    return EditTrace(
        instruction=INSTRUCTION,
        seed=seed,
        image=digest(bytes([shown])),
        scores={"judge": float(shown)},
        outcome="pair",
    )


def trace_of(*edits: EditTrace) -> ImageTrace:
    return ImageTrace(
        prompt="a square",
        prompt_index=0,
        image_index=0,
        seed=0,
        image=digest(b"the original"),
        scores={"judge": 0.0},
        edits=list(edits),
    )


def test_each_pair_names_the_editor_that_made_its_edit() -> None:
    """Edits of one image come at the same time, and the editor may be replaced between them."""
    failed = EditTrace(instruction=INSTRUCTION, seed=9, outcome="editing_failed")
    trace = trace_of(edited(1), failed, edited(2))
    makers = Makers(editors=[BEFORE, None, AFTER], rewards={"judge": JUDGE})
    spec = CurationSpec(prompts=("a square",), pairs_per_image=2)
    pairs = pairs_of(spec, {"judge": 0.1}, trace, makers)
    assert [(pair.editing_seed, pair.models.editing) for pair in pairs] == [(1, BEFORE), (2, AFTER)]
    assert [pair.models.rewards for pair in pairs] == [{"judge": JUDGE}] * 2


def test_edits_that_gave_the_same_picture_are_one_pair() -> None:
    """An editor that ignores its seed, or two ways to say the same: the pair would be there twice."""
    trace = trace_of(edited(1, picture=5), edited(2, picture=5), edited(3), edited(4, 0), edited(6, 0))
    makers = Makers(editors=[BEFORE] * 5, rewards={"judge": JUDGE})
    spec = CurationSpec(prompts=("a square",), pairs_per_image=3)
    pairs = pairs_of(spec, {"judge": 0.1}, trace, makers)
    assert [pair.editing_seed for pair in pairs] == [1, 3]
    assert [edit.outcome for edit in trace.edits] == ["pair", "not_best", "pair", "tie", "tie"]
