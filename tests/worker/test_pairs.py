"""The pairs of one image: what each carries."""

from retouche.contract.jobs import CurationSpec, EditTrace, ImageTrace
from retouche.contract.payload import ModelIdentity
from retouche.contract.stages import EditInstruction
from retouche.store import digest
from worker.pairs import Makers, pairs_of

BEFORE, AFTER = ModelIdentity(id="editor", revision="1"), ModelIdentity(id="editor", revision="2")
JUDGE = ModelIdentity(id="judge", revision="1")
INSTRUCTION = EditInstruction(action="recolor", target="the square", text="make it red")


def edited(seed: int) -> EditTrace:
    return EditTrace(
        instruction=INSTRUCTION,
        seed=seed,
        image=digest(bytes([seed])),
        scores={"judge": 1.0 + seed},
        outcome="pair",
    )


def test_each_pair_names_the_editor_that_made_its_edit() -> None:
    """Edits of one image come at the same time, and the editor may be replaced between them."""
    failed = EditTrace(instruction=INSTRUCTION, seed=9, outcome="editing_failed")
    trace = ImageTrace(
        prompt="a square",
        prompt_index=0,
        image_index=0,
        seed=0,
        image=digest(b"the original"),
        scores={"judge": 0.0},
        edits=[edited(1), failed, edited(2)],
    )
    makers = Makers(editors=[BEFORE, None, AFTER], rewards={"judge": JUDGE})
    spec = CurationSpec(prompts=("a square",), pairs_per_image=2)
    pairs = pairs_of(spec, {"judge": 0.1}, trace, makers)
    assert [(pair.editing_seed, pair.models.editing) for pair in pairs] == [(1, BEFORE), (2, AFTER)]
    assert [pair.models.rewards for pair in pairs] == [{"judge": JUDGE}] * 2
