"""One pair as people read it: what was asked, what was wrong, what was done, how every reward model voted."""

import html

from retouche.charts import before_and_after
from retouche.contract.jobs import PreferencePair
from retouche.contract.pair_search import FoundPair, PairSearch

DECISIONS = {"accept": "✓ accepted", "reject": "✕ rejected", "flip": "⇄ flipped", "withdraw": "○ undecided"}


def caption(found: FoundPair) -> str:
    """Below a pair's thumbnail."""
    review = found.pair.review
    decision = f"{DECISIONS[review.decision]} · " if review else ""
    return f"{decision}{found.pair.prompt}"


def facts(found: FoundPair) -> str:
    """Everything that led to the pair."""
    pair = found.pair
    better = "the edited image" if pair.chosen_is_edit else "the original image: the edit made it worse"
    return (
        f"<section class='facts'>{_decision(pair)}<h3>Prompt</h3>"
        f"<p class='prompt'>{html.escape(pair.prompt)}</p>"
        f"<p>Chosen: <b>{better}</b>.</p>"
        f"<h3>What was wrong</h3>{_critique(pair)}"
        f"<h3>What was asked of the editor</h3><p>{html.escape(pair.instruction.text)} "
        f"<span class='note'>({html.escape(pair.instruction.action)})</span></p>"
        f"<h3>How the reward models voted</h3>{before_and_after(pair.original_scores, pair.edited_scores)}"
        f"<p class='note'>margin over all {found.margin:+.2f}, disagreement {found.disagreement:.2f}: in "
        "units of each model's usual difference in this job</p>"
        f"{_provenance(pair)}</section>"
    )


def counts(page: PairSearch, number: int) -> str:
    """Where the visitor is, and how much of the job is decided."""
    decided = ", ".join(
        f"{count:,} {DECISIONS[decision][2:]}" for decision, count in sorted(page.decided.items())
    )
    return (
        f"<p class='where' role='status'>Pair <b>{number:,}</b> of <b>{page.total:,}</b> found"
        f"<span class='note'> · in this job: {decided or 'nothing decided yet'}</span></p>"
    )


def _critique(pair: PreferencePair) -> str:
    if pair.critique is None:
        return "<p>Nothing was said to be: the job gave every image one style.</p>"
    findings = "".join(
        f"<li><b>{html.escape(finding.aspect)}</b>: {html.escape(finding.subject)} "
        f"{html.escape(finding.problem)}</li>"
        for finding in pair.findings
    )
    return f"<p>{html.escape(pair.critique.description)}</p><ul>{findings}</ul>"


def _decision(pair: PreferencePair) -> str:
    review = pair.review
    if review is None:
        return "<p class='decision'>○ undecided</p>"
    return (
        f"<p class='decision {review.decision}'>"
        f"{DECISIONS[review.decision]} by {html.escape(review.reviewer)}"
        f", {review.at:%Y-%m-%d %H:%M} UTC</p>"
    )


def _provenance(pair: PreferencePair) -> str:
    models, seed = pair.models, pair.generation_seed
    rows = {
        "original": pair.origin or f"{models.generation}, seed {seed}",
        "critique": str(models.critique or "none"),
        "instruction": str(models.instruction or "none"),
        "editing": f"{models.editing}, seed {pair.editing_seed}",
        **{f"reward {name}": str(model) for name, model in models.rewards.items()},
        "prompt": f"number {pair.prompt_index + 1}, image {pair.image_index + 1}",
        "pair": pair.id,
        "chosen": pair.chosen,
        "rejected": pair.rejected,
    }
    cells = "".join(
        f"<tr><th scope='row'>{html.escape(name)}<td>{html.escape(value)}</tr>"
        for name, value in rows.items()
    )
    return (
        f"<details><summary>Where it comes from</summary><table class='provenance'>{cells}</table></details>"
    )
