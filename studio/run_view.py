"""Training runs as people read them: curves, an evaluation with intervals, base and tuned side by side."""

import html
from collections.abc import Mapping, Sequence

from retouche.contract.evaluation import TRUTH, Comparison, Evaluation
from retouche.contract.runs import Run, TrainingMetrics
from retouche.images import to_data_uri
from retouche.training_curves import training_curves
from studio import notices
from studio.job_view import STATES


def label(run: Run) -> str:
    """A run in a list to choose from."""
    return f"{run.id} · {STATES[run.state]} · {run.spec.objective.name} · step {run.step:,}"


def summary(run: Run) -> str:
    """What the run is, and how far it has come."""
    data, how = run.spec.data, run.spec.optimisation
    source = data.job or data.pick_a_pic or "-"
    reviewed = {"all": "", "not_rejected": ", without the rejected", "only": ", only the accepted"}[
        data.reviewed
    ]
    share = run.step / how.steps
    speed = f", {run.metrics.pairs_per_second:.1f} pairs/s" if run.metrics else ""
    error = notices.bad(run.error) if run.error else ""
    return (
        f"{error}<p><code>{run.id}</code> is {STATES[run.state]}: {run.spec.objective.name} with "
        f"{run.spec.tuning.kind}, on {html.escape(source)}{reviewed}. "
        f"Step {run.step:,} of {how.steps:,}{speed}.</p>"
        f"<div class='meter' role='img' aria-label='{share:.0%} done'><i style='width:{share:.0%}'></i></div>"
    )


def curves(metrics: Sequence[TrainingMetrics]) -> str:
    """The curves of what the run has logged."""
    if not metrics:
        return notices.empty("Nothing is logged yet: the first step comes once the pairs are encoded.")
    return f"<div class='charts'>{training_curves(metrics)}</div>"


def evaluation_table(evaluation: Evaluation) -> str:
    """Every score of base and tuned model, with 95% intervals."""
    rows = "".join(
        f"<tr><th scope='row'>{_scorer(name)}"
        f"<td class='n' data-label='base'>{found.base_mean:.4f}"
        f"<td class='n' data-label='tuned'>{found.tuned_mean:.4f}"
        f"<td class='n' data-label='difference'>{found.difference:+.4f}"
        f"<td class='n' data-label='win rate'>{found.win_rate:.3f}</tr>"
        for name, found in evaluation.judgements.items()
    )
    hacked = (
        notices.bad(f"{', '.join(evaluation.hacked)} rose while the truth did not: reward hacking.")
        if evaluation.hacked
        else ""
    )
    return (
        f"{hacked}<div class='scroll' tabindex='0' role='region' aria-label='Evaluation'>"
        "<table class='jobs list'>"
        "<thead><tr><th>Score<th class='n'>Base<th class='n'>Tuned<th class='n'>Difference [95%]"
        f"<th class='n'>Win rate [95%]</tr></thead><tbody>{rows}</tbody></table></div>"
        f"<p class='note'>{evaluation.prompts:,} prompts, {evaluation.images_per_prompt} image(s) each, the "
        "same seeds for both; intervals bootstrapped over prompts.</p>"
    )


def side_by_side(found: Sequence[Comparison], pictures: Mapping[str, bytes]) -> str:
    """Base and tuned image of some prompts and seeds, with their scores."""
    return f"<div class='sidebyside'>{''.join(_compared(one, pictures) for one in found)}</div>"


def _compared(found: Comparison, pictures: Mapping[str, bytes]) -> str:
    images = "".join(
        f"<img alt='{kind}: {html.escape(found.prompt, quote=True)}' src='{to_data_uri(pictures[image])}'>"
        for kind, image in (("base", found.base), ("tuned", found.tuned))
    )
    scores = "<br>".join(
        f"{_scorer(name)} {value:.3f} → {found.tuned_scores[name]:.3f}"
        for name, value in found.base_scores.items()
    )
    said = f"<span class='note'>base → tuned, seed {found.seed}<br>{scores}</span>"
    words = f"{html.escape(found.prompt)}<br>{said}"
    return f"<figure><div class='both'>{images}</div>{words}</figure>"


def _scorer(name: str) -> str:
    return "exact checker" if name == TRUTH else html.escape(name)
