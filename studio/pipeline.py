"""The pipeline as a picture: what each part does, what waits for it, how fast and how busy it is."""

import html
from collections.abc import Sequence

from retouche.contract.overview import Overview, QueueLoad, StageLoad

_BUSY = 0.5  # of its time at work: from here on a service may be the bottleneck

_DOES = {
    "generation": "draws an image of each prompt",
    "critique": "says what is wrong with it",
    "instruction": "turns that into edits",
    "editing": "carries them out",
    "reward": "scores before and after",
}


def picture(snapshots: Sequence[Overview]) -> str:
    """The newest of some snapshots; rates are over the time since the oldest."""
    first, last = snapshots[0], snapshots[-1]
    seconds = (last.at - first.at).total_seconds()
    shares = {name: _busy(first.stages.get(name), load, seconds) for name, load in last.stages.items()}
    slowest = max(shares, key=lambda name: shares[name], default=None)
    slowest = slowest if slowest and shares[slowest] >= _BUSY else None
    stages = "".join(
        _stage(name, load, _per_second(first.stages.get(name), load, seconds), shares[name], name == slowest)
        for name, load in last.stages.items()
    )
    queues = last.queues or {}
    return (
        f"{_verdict(slowest, shares, last)}<ol class='pipeline'>"
        f"{_queue('Jobs', 'shards of prompts wait for a worker', queues.get('curate'), 'workers')}"
        f"{stages}"
        f"{_queue('Training', 'runs wait for a trainer', queues.get('train'), 'trainers')}</ol>"
        "<p class='note'>Each box is a process of its own and can be run several times over. “Busy” is the "
        "share of the last seconds in which its model was at work; the busiest one holds up all others.</p>"
    )


def _verdict(slowest: str | None, shares: dict[str, float], last: Overview) -> str:
    away = [name for name, load in last.stages.items() if not load.replicas]
    if away:
        details = "; ".join(f"{name}: {last.stages[name].detail}" for name in away)
        text = f"Not answering: {', '.join(away)}. Jobs wait until they are back. {details}"
        kind = "bad"
    elif last.queues is None:
        kind, text = "bad", "Redis is away: what runs goes on, and new work starts when it is back."
    elif slowest:
        share = f"{shares[slowest]:.0%}"
        kind, text = "good", f"The bottleneck is {slowest}: busy {share} of the time. More of it would help."
    elif waiting := {name: load.waiting for name, load in last.stages.items() if load.waiting}:
        name = max(waiting, key=lambda stage: waiting[stage])
        kind, text = "good", f"Work is under way; most waits for {name}: {waiting[name]:,} items."
    else:
        kind, text = "empty", "Nothing is held up. Submit a job, and watch here where its time goes."
    return f"<div class='notice {kind}' role='status'><div>{html.escape(text)}</div></div>"


def _stage(name: str, load: StageLoad, rate: float, share: float, slowest: bool) -> str:
    mark = "<b class='badge'>▲ bottleneck</b>" if slowest else ""
    if not load.replicas:
        mark = "<b class='badge away'>✕ not answering</b>"
    several = f" × {load.replicas}" if load.replicas > 1 else ""
    remembered = f", {load.remembered:,} from memory" if load.remembered else ""
    failed = f", {load.failed:,} failed" if load.failed else ""
    return (
        f"<li class='stage{' slowest' if slowest else ''}' data-stage='{name}'>"
        f"<h3>{name}{several}</h3>{mark}<p>{_DOES.get(name, '')}</p>"
        f"<div class='meter' role='img' aria-label='busy {share:.0%}'>"
        f"<i style='width:{share:.0%}'></i></div>"
        f"<dl><dt>busy</dt><dd>{share:.0%}</dd><dt>waiting</dt><dd>{load.waiting:,}</dd>"
        f"<dt>rate</dt><dd>{rate:.1f}/s</dd></dl>"
        f"<p class='note'>{load.answered:,} answered{remembered}{failed}</p></li>"
    )


def _queue(name: str, what: str, load: QueueLoad | None, who: str) -> str:
    if load is None:
        return f"<li class='queue'><h3>{name}</h3><b class='badge away'>✕ Redis is away</b><p>{what}</p></li>"
    return (
        f"<li class='queue'><h3>{name}</h3><p>{what}</p><dl><dt>waiting</dt><dd>{load.waiting:,}</dd>"
        f"<dt>at work</dt><dd>{load.at_work:,}</dd><dt>{who}</dt><dd>{load.workers:,}</dd></dl></li>"
    )


def _per_second(before: StageLoad | None, now: StageLoad, seconds: float) -> float:
    """Answers a second; 0 where a replica began to count anew."""
    return max(0, now.answered - before.answered) / seconds if before and seconds else 0.0


def _busy(before: StageLoad | None, now: StageLoad, seconds: float) -> float:
    """The share of its time that the stage's models were at work, 0 to 1."""
    if before is None or not seconds or not now.replicas:
        return 0.0
    return min(1.0, max(0.0, now.model_seconds - before.model_seconds) / seconds / now.replicas)
