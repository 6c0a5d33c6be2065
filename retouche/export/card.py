"""The data-set card: where the pairs come from and what they are like; README.md with YAML front matter."""

from collections import Counter
from dataclasses import dataclass, field

import yaml

import retouche
from retouche.contract.jobs import Job, PreferencePair

_SIZES = ((1_000, "n<1K"), (10_000, "1K<n<10K"), (100_000, "10K<n<100K"), (1_000_000, "100K<n<1M"))


@dataclass
class RewardSums:
    """One reward model over all pairs: sums of raw scores, and how often it prefers the chosen image."""

    pairs: int = 0
    chosen: float = 0.0
    rejected: float = 0.0
    agrees: int = 0


_INSTEAD = {  # of a model, where a job did without
    "generation": "none: existing images",
    "critique": "none: one style for all",
    "instruction": "none: one style for all",
}


@dataclass
class Statistics:
    """Counts over pairs, gathered as they pass by."""

    splits: Counter[str] = field(default_factory=Counter)
    prompts: int = 0
    chosen_is_edit: int = 0
    decisions: Counter[str] = field(default_factory=Counter)  # of people; the labels follow them
    aspects: Counter[str] = field(default_factory=Counter)
    actions: Counter[str] = field(default_factory=Counter)
    rewards: dict[str, RewardSums] = field(default_factory=dict)
    models: dict[str, set[str]] = field(default_factory=dict)

    def add(self, split: str, pair: PreferencePair) -> None:
        self.splits[split] += 1
        self.chosen_is_edit += pair.chosen_is_edit
        if pair.review is not None:
            self.decisions[pair.review.decision] += 1
        self.aspects.update(finding.aspect for finding in pair.findings)
        self.actions[pair.instruction.action] += 1
        for name, chosen in pair.chosen_scores.items():
            sums, rejected = self.rewards.setdefault(name, RewardSums()), pair.rejected_scores[name]
            sums.pairs += 1
            sums.chosen += chosen
            sums.rejected += rejected
            sums.agrees += chosen > rejected
        for stage in ("generation", "critique", "instruction", "editing"):
            model = getattr(pair.models, stage) or _INSTEAD[stage]
            self.models.setdefault(stage, set()).add(str(model))
        for name, model in pair.models.rewards.items():
            self.models.setdefault(f"reward {name}", set()).add(str(model))


def card(job: Job, statistics: Statistics) -> str:
    """README.md of the pairs of `job`."""
    sections = (_summary(job, statistics), _models(statistics), _scores(statistics), _counts(job, statistics))
    return f"---\n{_front_matter(job, statistics)}---\n\n" + "\n\n".join(filter(None, sections)) + "\n"


def _front_matter(job: Job, statistics: Statistics) -> str:
    total = statistics.splits.total()
    files = [{"split": split, "path": f"data/{split}-*"} for split in sorted(statistics.splits)]
    fields = {
        "pretty_name": f"Preference pairs of {job.id}",
        "task_categories": ["text-to-image"],
        "tags": ["preference-pairs", "diffusion-dpo", "pick-a-pic", "synthetic", "retouche"],
        "size_categories": [next((name for most, name in _SIZES if total < most), "n>1M")],
        "configs": [{"config_name": "default", "data_files": files}],
    }
    return yaml.safe_dump(fields, sort_keys=False)


def _summary(job: Job, statistics: Statistics) -> str:
    total = statistics.splits.total()
    splits = ", ".join(f"{count:,} in `{split}`" for split, count in sorted(statistics.splits.items()))
    critique = "" if _without("critique", statistics) else "the critique, "
    return (
        f"# Preference pairs of {job.id}\n\n"
        f"{total:,} pairs of images ({splits}) for {statistics.prompts:,} prompts, made by Retouche "
        f"{retouche.__version__}: {_made(statistics)}. {_people(statistics)}\n\n"
        f"Curated in a job submitted {job.created_at:%Y-%m-%d %H:%M} UTC, which is {job.state} with "
        f"{job.shards_finished:,} of {job.shards:,} shards. In {_share(statistics.chosen_is_edit, total)} of "
        "the pairs the edited picture is the preferred one.\n\n"
        "The columns are those of Pick-a-Pic v2, so that trainers for it read this folder as it is; "
        f"{critique}the instruction, raw scores, model revisions and seeds stand in further ones."
    )


def _without(stage: str, statistics: Statistics) -> bool:
    return _INSTEAD[stage] in statistics.models[stage]


def _made(statistics: Statistics) -> str:
    """How the two pictures of a pair came to be, and what named the better one first."""
    existing, style = (_without(stage, statistics) for stage in ("generation", "critique"))
    if style:
        picture = "an existing picture is" if existing else "a picture is generated and"
        return (
            f"{picture} edited by one instruction, the same for all, and the edited picture is the "
            "preferred one, whatever reward models say"
        )
    picture = "an existing picture is" if existing else "a picture is generated,"
    return f"{picture} criticised and edited, and reward models say which of the two pictures is better"


def _people(statistics: Statistics) -> str:
    """What people had to say about which picture is preferred."""
    decided, total = statistics.decisions.total(), statistics.splits.total()
    if not decided:
        return "No label is a person's decision."
    whom = "all of these pairs" if decided == total else f"{decided:,} of these pairs"
    others = "" if decided == total else "; no other label is a person's decision"
    accepted, flipped = statistics.decisions["accept"], statistics.decisions["flip"]
    return f"People then reviewed {whom}: they accepted {accepted:,} and flipped {flipped:,}{others}."


def _models(statistics: Statistics) -> str:
    rows = [f"| {stage} | {', '.join(sorted(ids))} |" for stage, ids in statistics.models.items()]
    return "\n".join(["## Models", "", "| stage | model@revision |", "|---|---|", *rows])


def _scores(statistics: Statistics) -> str:
    rows = [
        f"| {name} | {sums.chosen / sums.pairs:.4f} | {sums.rejected / sums.pairs:.4f} "
        f"| {_share(sums.agrees, sums.pairs)} |"
        for name, sums in sorted(statistics.rewards.items())
    ]
    head = [
        "## Scores",
        "",
        "| reward | mean, chosen | mean, rejected | prefers the chosen |",
        "|---|---|---|---|",
    ]
    return "\n".join([*head, *rows]) if rows else ""


def _counts(job: Job, statistics: Statistics) -> str:
    report = job.report
    lines = [
        f"- findings by aspect: {_listed(statistics.aspects)}",
        f"- instructions by action: {_listed(statistics.actions)}",
        f"- the job looked at {report.images:,} images and made {report.edits:,} edits",
        f"- what did not become a pair, by reason: {_listed(Counter(report.dropped))}",
    ]
    return "\n".join(["## Counts", "", *lines])


def _listed(counts: Counter[str]) -> str:
    return ", ".join(f"{name} {count:,}" for name, count in counts.most_common()) or "none"


def _share(part: int, whole: int) -> str:
    return f"{part / whole:.0%}"
