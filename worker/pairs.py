"""The preference pairs of one image, from its scored edits."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from retouche.contract.jobs import CurationSpec, EditTrace, ImageTrace, ModelIdentities, PreferencePair
from retouche.contract.payload import ModelIdentity
from retouche.contract.stages import RewardName
from worker.pairing import judge, outcomes
from worker.seeds import pair_id


@dataclass
class Makers:
    """Who answered for one image and its edits, as the answers say: a service may be replaced in between."""

    stages: dict[str, ModelIdentity] = field(default_factory=dict)  # all but editing and reward
    editors: Sequence[ModelIdentity | None] = ()  # of each edit of the trace; None made none
    rewards: dict[RewardName, ModelIdentity] = field(default_factory=dict)


def pairs_of(
    spec: CurationSpec, margins: Mapping[str, float], trace: ImageTrace, makers: Makers
) -> list[PreferencePair]:
    """Judge every scored edit of `trace`, note in it what became of each, and make pairs of those kept.

    Of several edits that gave the same picture only the first is judged.
    """
    scored = [
        (edit, editor)
        for edit, editor in zip(trace.edits, makers.editors, strict=True)
        if edit.outcome == "pair" and editor is not None
    ]
    firsts = {edit.image: edit for edit, _ in reversed(scored)}
    judged = [(edit, editor) for edit, editor in scored if firsts[edit.image] is edit]
    judgements = [judge(trace.scores, edit.scores, margins, spec.agreement) for edit, _ in judged]
    if spec.style is not None:  # what is wanted is the style, whatever the reward models make of it
        judgements = [replace(judgement, verdict="edit") for judgement in judgements]
    kept = outcomes(judgements, spec.relabel, spec.pairs_per_image)
    pairs = []
    for (edit, editor), judgement, outcome in zip(judged, judgements, kept, strict=True):
        edit.outcome = outcome
        if outcome == "pair":
            models = ModelIdentities(**makers.stages, editing=editor, rewards=makers.rewards)
            pairs.append(_pair(trace, edit, judgement.verdict == "edit", models))
    for edit, _ in scored:
        if (first := firsts[edit.image]) is not edit:
            edit.outcome = "not_best" if first.outcome == "pair" else first.outcome
    return pairs


def _pair(
    trace: ImageTrace, edit: EditTrace, chosen_is_edit: bool, models: ModelIdentities
) -> PreferencePair:
    better, worse = (edit, trace) if chosen_is_edit else (trace, edit)
    if better.image is None or worse.image is None:
        raise ValueError(f"an edit without its images cannot become a pair: {edit}")
    return PreferencePair(
        id=pair_id(trace.prompt, better.image, worse.image, edit.instruction.text),
        prompt=trace.prompt,
        chosen=better.image,
        rejected=worse.image,
        chosen_is_edit=chosen_is_edit,
        critique=trace.critique,
        instruction=edit.instruction,
        chosen_scores=better.scores,
        rejected_scores=worse.scores,
        models=models,
        origin=trace.origin,
        generation_seed=trace.seed if trace.origin is None else None,
        editing_seed=edit.seed,
        prompt_index=trace.prompt_index,
        image_index=trace.image_index,
    )
