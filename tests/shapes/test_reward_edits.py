"""What the second reward model is taught with: pairs of training prompts, and which of them weigh most."""

import math
from collections.abc import Sequence

import torch

from shapes.check import check
from shapes.instructions import instructions_for
from shapes.prompts import held_out_scenes, parse, train_prompts
from shapes.render import Pixels
from shapes.train.base import load
from shapes.train.editor import EditCase
from shapes.train.loop import MODELS, rehearsal
from shapes.train.reward_edits import make_edits
from shapes.train.rewards import NEAR_WEIGHT, own_pairs, preference_loss


def test_samples_of_training_prompts_stand_before_their_edits() -> None:
    """Faulty samples get the instruction that puts them right, the others one that spoils them."""
    asked: list[EditCase] = []

    def darker(cases: Sequence[EditCase], _: int) -> list[Pixels]:
        asked.extend(cases)
        return [case.picture // 2 for case in cases]

    with rehearsal(0.0002):
        edits = make_edits(load(MODELS / "base"), [darker, darker], seed=1)
    before, after = edits.pictures[::2], edits.pictures[1::2]
    assert torch.equal(before // 2, after)
    assert len(edits.prompts) == len(before) > 16
    assert set(edits.prompts) <= set(train_prompts())
    assert not {observation.scene for observation in edits.observations} & set(held_out_scenes())
    instructed = {case.picture.tobytes(): case.instruction for case in asked}
    for prompt, picture in zip(edits.prompts, before.permute(0, 2, 3, 1).numpy(), strict=True):
        report = check(picture, prompt)
        right = [edit.text for edit in instructions_for(report, parse(prompt))][:1]
        assert (instructed[picture.tobytes()] in right) == bool(report.faults)


def test_the_pairs_of_ones_own_pictures_weigh_most() -> None:
    """Two prompts of two pictures each; each prefers its own first one to everything else."""
    truths = torch.tensor([[1.0, 0.5, 0.0, 0.0], [0.0, 0.0, 1.0, 0.5]])
    logits = torch.tensor([[2.0, 1.0, 0.0, 0.0], [0.0, 0.0, 2.0, 1.0]])
    near = own_pairs(prompts=2, each=2)
    assert near.nonzero().tolist() == [
        [t, 2 * t + i, 2 * t + j] for t in (0, 1) for i in (0, 1) for j in (0, 1)
    ]
    by_one, by_two = math.log1p(math.exp(-1)), math.log1p(math.exp(-2))
    far = (2 * by_two + 2 * by_one) / 4  # the first and the second one against both of the other prompt's
    expected = NEAR_WEIGHT * by_one + (1 - NEAR_WEIGHT) * far
    assert math.isclose(float(preference_loss(logits, truths, near)), expected, rel_tol=1e-6)


def test_pictures_that_are_all_the_same_teach_nothing() -> None:
    assert preference_loss(torch.ones(1, 2), torch.ones(1, 2), own_pairs(1, 2)) == 0
