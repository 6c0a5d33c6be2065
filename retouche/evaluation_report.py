"""An evaluation as one self-contained HTML file: figures, distributions, pictures side by side."""

import asyncio
import html
from collections.abc import Mapping, Sequence
from pathlib import Path

from retouche.client import AsyncRetouche
from retouche.contract.evaluation import Comparison, Evaluation, Judgement, StyleAlignment
from retouche.images import to_data_uri

SHOWN = 24  # comparisons with pictures: the largest gains and the largest losses
_BINS = 21
_WIDTH, _HEIGHT = 420, 120

_STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; color: #1c2430; max-width: 1000px; margin: 2rem auto;
       padding: 0 1rem }
h1 { font-size: 1.5rem } h2 { font-size: 1.15rem; margin-top: 2.2rem }
table { border-collapse: collapse } th, td { padding: .35rem .9rem .35rem 0; text-align: right }
th:first-child, td:first-child { text-align: left } th { border-bottom: 1px solid #99a3b0; font-weight: 600 }
.note { color: #55606e } .warning { background: #fff3d6; padding: .6rem .9rem; border-radius: 6px }
.plots, .pairs { display: flex; flex-wrap: wrap; gap: 1.2rem } figure { margin: 0 }
.pair { width: 230px; font-size: .82rem }
.pair img { width: 108px; height: 108px; image-rendering: pixelated }
.pair div { display: flex; gap: 8px } .sheet { display: grid; gap: 1.4rem }
.sheet article { display: flex; flex-wrap: wrap; gap: 1rem; border-top: 1px solid #d5d9df; padding-top: 1rem }
.sheet img { width: 148px; height: 148px; image-rendering: pixelated; object-fit: contain;
             border: 4px solid transparent }
.sheet img.chosen { border-color: #0072b2 } .sheet section { flex: 1 1 260px; font-size: .88rem }
.sheet p { margin: .2rem 0 } figcaption { font-weight: 600 } code { font-size: .85em }
svg text { font: 11px system-ui; fill: #55606e }
"""


async def write_report(client: AsyncRetouche, evaluation: Evaluation, file: Path) -> Path:
    """Write the report; its pictures are fetched from the gateway and become part of it."""
    title = f"<h1>{evaluation.run} against its base</h1>"
    content = page(evaluation.run, title + await section(client, evaluation))
    await asyncio.to_thread(file.write_text, content)
    return file


async def section(client: AsyncRetouche, evaluation: Evaluation) -> str:
    """The evaluation as a part of a page, its pictures in it."""
    shown = evaluation.most_changed(SHOWN)
    references = {image for found in shown for image in (found.base, found.tuned)}
    pictures = {reference: await client.image(reference) for reference in sorted(references)}
    return _section(evaluation, shown, pictures)


def page(title: str, content: str) -> str:
    """A page that needs nothing but itself."""
    return (
        "<!doctype html><html lang=en><meta charset=utf-8><meta name=viewport content='width=device-width'>"
        f"<title>{html.escape(title)}</title><style>{_STYLE}</style>{content}</html>"
    )


def _section(evaluation: Evaluation, shown: Sequence[Comparison], pictures: Mapping[str, bytes]) -> str:
    hacked = evaluation.hacked
    warning = (
        f"<p class=warning>{html.escape(', '.join(hacked))} rose while the truth did not: reward hacking.</p>"
        if hacked
        else ""
    )
    rows = "".join(_row(name, found) for name, found in evaluation.judgements.items())
    plots = "".join(_histogram(evaluation, name) for name in evaluation.judgements)
    pairs = "".join(_pair(found, pictures) for found in shown)
    first = html.escape(evaluation.first)
    return (
        f"<p class=note>{evaluation.prompts} prompts, {evaluation.images_per_prompt} image(s) each, the same "
        f"seeds for both models. Intervals: 95%, bootstrapped over prompts.</p>{warning}"
        "<table><tr><th>score<th>base<th>tuned<th>difference<th>win rate</tr>"
        f"{rows}</table>{_style(evaluation.style)}"
        f"<h2>Tuned minus base, per image</h2><div class=plots>{plots}</div>"
        f"<h2>Base and tuned, side by side</h2><p class=note>The largest gains first, the largest losses "
        f"last, by {first}.</p><div class=pairs>{pairs}</div>"
    )


def _row(name: str, found: Judgement) -> str:
    return (
        f"<tr><td>{html.escape(name)}<td>{found.base_mean:.4f}<td>{found.tuned_mean:.4f}"
        f"<td>{found.difference:+.4f}<td>{found.win_rate:.3f}</tr>"
    )


def _style(found: StyleAlignment | None) -> str:
    if found is None:
        return ""
    return (
        f"<p>Fréchet distance to the {found.style_images} chosen images of {html.escape(found.job)} in the "
        f"image space of {html.escape(found.reward)}: base {found.base:.4f}, tuned {found.tuned:.4f}; "
        "less is nearer.</p>"
    )


def _histogram(evaluation: Evaluation, name: str) -> str:
    changes = [found.tuned_scores[name] - found.base_scores[name] for found in evaluation.comparisons]
    reach = max(abs(change) for change in changes) or 1.0
    counts = [0] * _BINS
    for change in changes:
        counts[min(_BINS - 1, int((change / reach + 1) / 2 * _BINS))] += 1
    step, tallest = _WIDTH / _BINS, max(counts)
    middle = _BINS // 2
    bars = "".join(
        f"<rect x='{index * step + 1:.1f}' y='{_HEIGHT - height:.1f}' width='{step - 2:.1f}' "
        f"height='{height:.1f}' fill='{_color(index, middle)}'/>"
        for index, height in enumerate(count / tallest * _HEIGHT for count in counts)
    )
    labels = "".join(
        f"<text x='{x}' y='{_HEIGHT + 15}' text-anchor='{anchor}'>{value}</text>"
        for x, anchor, value in (
            (0, "start", f"{-reach:+.3f}"),
            (_WIDTH / 2, "middle", "0"),
            (_WIDTH, "end", f"{reach:+.3f}"),
        )
    )
    title = f"<figcaption>{html.escape(name)}</figcaption>"
    return f"<figure>{title}<svg width={_WIDTH} height={_HEIGHT + 20} role=img>{bars}{labels}</svg></figure>"


def _color(index: int, middle: int) -> str:
    """Orange for worse, grey for equal, blue for better: told apart without red and green."""
    if index == middle:
        return "#b4bcc6"
    return "#2b6cb0" if index > middle else "#dd8030"


def _pair(found: Comparison, pictures: Mapping[str, bytes]) -> str:
    images = "".join(
        f"<img alt='{kind}' title='{kind}' src='{to_data_uri(pictures[image])}'>"
        for kind, image in (("base", found.base), ("tuned", found.tuned))
    )
    scores = "<br>".join(
        f"{html.escape(name)} {found.base_scores[name]:.3f} → {found.tuned_scores[name]:.3f}"
        for name in found.base_scores
    )
    words = f"{html.escape(found.prompt)}<br><span class=note>{scores}</span>"
    return f"<div class=pair><div>{images}</div>{words}</div>"
