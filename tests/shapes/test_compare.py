"""Scores that are kept are those of the same models and pairs."""

from dataclasses import replace

from retouche.identity import identify
from shapes.compare import BASE, RELATIONS, Trial, difference, name_of
from trainer.pairs import TrainingPair

PAIR = TrainingPair("best-of-n a red circle", "a red circle", "sha256:" + "1" * 64, "sha256:" + "2" * 64)
TRIAL = Trial("diffusion_dpo", seed=0, pairs=[PAIR], store="store", folder="trials")


def test_a_trial_on_other_pairs_is_another_though_they_are_as_many_and_called_the_same() -> None:
    shuffled = replace(PAIR, chosen=PAIR.rejected, rejected=PAIR.chosen)
    assert name_of(replace(TRIAL, pairs=[replace(PAIR)])) == name_of(TRIAL)
    assert name_of(replace(TRIAL, pairs=[shuffled])) != name_of(TRIAL)


def test_a_trial_is_named_by_the_weights_of_its_models() -> None:
    assert {identify(model).revision for model in (BASE, RELATIONS)} <= set(name_of(TRIAL).split("-"))


def test_an_interval_takes_the_two_prompts_of_a_scene_together() -> None:
    """Eight prompts of four scenes are no more evidence than four prompts."""
    from_one_side = [0.0, 0.0, 1.0, 1.0]
    found = difference([0.0] * 8, [from_one_side * 2])
    assert found == {"difference": 0.5, "low": 0.0, "high": 1.0}
