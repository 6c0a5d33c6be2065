"""What a training run logs, as charts."""

from collections.abc import Sequence

from retouche.charts import BLUE, GREEN, GREY, ORANGE, VERMILLION, Series, lines
from retouche.contract.runs import TrainingMetrics


def training_curves(metrics: Sequence[TrainingMetrics]) -> str:
    """Loss, implicit accuracy, reward margin, errors of winner and loser beside the reference model's."""
    charts = [
        lines("Loss", [_series("loss", BLUE, metrics, "loss")], "Flat says nothing about how often it wins."),
        lines(
            "Implicit accuracy",
            [_series("implicit accuracy", GREEN, metrics, "implicit_accuracy")],
            "The share of pairs of which the model prefers the chosen image; .5 is a coin.",
        ),
        lines("Reward margin", [_series("reward margin", ORANGE, metrics, "reward_margin")]),
        lines(
            "Winner and loser error",
            [
                _series("winner", BLUE, metrics, "chosen_error"),
                _series("loser", VERMILLION, metrics, "rejected_error", "7 3"),
                _series("winner, reference", GREY, metrics, "reference_chosen_error", "2 3"),
                _series("loser, reference", GREY, metrics, "reference_rejected_error", "9 3 2 3"),
            ],
            "The loser's should grow away from the winner's; both far above their references is a collapse.",
        ),
    ]
    return "".join(charts)


def _series(name: str, color: str, metrics: Sequence[TrainingMetrics], field: str, dash: str = "") -> Series:
    return Series(name, color, [(one.step, getattr(one, field)) for one in metrics], dash)
