"""Charts as SVG text, for pages that must stand alone.

Colours are those of Okabe and Ito, told apart by colour-blind people too; what a colour says is said by a
shape, a dash or a word as well. Text and axes take the page's own colour, so that a dark page works.
"""

import html
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import ceil, floor, isfinite, log10

BLUE, VERMILLION, GREEN, ORANGE, PURPLE, GREY = (
    "#0072b2",
    "#d55e00",
    "#009e73",
    "#e69f00",
    "#cc79a7",
    "#8a8f98",
)

_WIDTH, _HEIGHT = 460, 220
_LEFT, _RIGHT, _TOP, _BOTTOM = 58, 14, 14, 30
_BINS = 24
_TEXT = "font:12px system-ui,sans-serif;fill:currentColor"
_QUIET = f"{_TEXT};opacity:.72"


@dataclass(frozen=True)
class Series:
    """One line of a chart. `dash`: SVG's stroke-dasharray; empty for a whole line."""

    name: str
    color: str
    points: Sequence[tuple[float, float]]
    dash: str = ""


def lines(title: str, series: Sequence[Series], note: str = "") -> str:
    """A chart of lines over steps; points that are not finite are left out."""
    shown = [_finite(one) for one in series]
    points = [point for one in shown for point in one.points]
    if not points:
        return _figure(title, note, "<p>Nothing is logged yet.</p>")
    x_low, x_high = _span([x for x, _ in points], whole=True)
    y_low, y_high = _span([y for _, y in points])
    drawn = [_axes(x_low, x_high, y_low, y_high)]
    for one in shown:
        path = " ".join(f"{_across(x, x_low, x_high):.1f},{_up(y, y_low, y_high):.1f}" for x, y in one.points)
        drawn.append(
            f"<polyline points='{path}' fill='none' stroke='{one.color}' stroke-width='2' "
            f"stroke-dasharray='{one.dash}'/>"
        )
        if len(one.points) == 1:
            drawn.append(_dot(path.split(",")[0], path.split(",")[1], one.color, filled=True))
    legend = _legend(shown) if len(shown) > 1 else ""
    last = ", ".join(f"{one.name} {one.points[-1][1]:.4g}" for one in shown if one.points)
    return _figure(title, note, _svg(_WIDTH, _HEIGHT, "".join(drawn), f"{title}: {last}") + legend)


def histogram(title: str, values: Sequence[float], note: str = "") -> str:
    """How often values occur, with zero marked where it lies within; bars below zero are vermillion."""
    finite = [value for value in values if isfinite(value)]
    if not finite:
        return _figure(title, note, "<p>There are no values.</p>")
    low, high = min(finite), max(finite)
    width = (high - low) / _BINS or 1.0
    counts = [0] * _BINS
    for value in finite:
        counts[min(_BINS - 1, int((value - low) / width))] += 1
    step, tallest = (_WIDTH - _LEFT - _RIGHT) / _BINS, max(counts)
    drawn = []
    for index, count in enumerate(counts):
        height = count / tallest * (_HEIGHT - _TOP - _BOTTOM)
        color = BLUE if low + (index + 0.5) * width >= 0 else VERMILLION
        drawn.append(
            f"<rect x='{_LEFT + index * step + 1:.1f}' y='{_HEIGHT - _BOTTOM - height:.1f}' "
            f"width='{step - 2:.1f}' height='{height:.1f}' fill='{color}'/>"
        )
    drawn.append(_axes(low, high, 0, tallest, grid=False))
    return _figure(title, note, _svg(_WIDTH, _HEIGHT, "".join(drawn), f"{title}: {len(finite)} values"))


def bars(title: str, counts: Mapping[str, int], color: str = BLUE, note: str = "") -> str:
    """A bar for each count, with its words and its number."""
    if not counts:
        return _figure(title, note, "<p>None yet.</p>")
    most, rows = max(max(counts.values()), 1), []
    for index, (name, count) in enumerate(counts.items()):
        top = 4 + index * 26
        length = count / most * (_WIDTH - 250)
        rows.append(
            f"<text x='0' y='{top + 14}' style='{_TEXT}'>{html.escape(name)}</text>"
            f"<rect x='170' y='{top + 2}' width='{length:.1f}' height='16' rx='2' fill='{color}'/>"
            f"<text x='{176 + length:.1f}' y='{top + 14}' style='{_TEXT}'>{count:,}</text>"
        )
    said = ", ".join(f"{name} {count}" for name, count in counts.items())
    return _figure(title, note, _svg(_WIDTH, 8 + 26 * len(counts), "".join(rows), f"{title}: {said}"))


def before_and_after(before: Mapping[str, float], after: Mapping[str, float]) -> str:
    """For each reward model where the original and the edited image stand: a ring and a disc on a line."""
    rows = []
    for index, name in enumerate(before):
        middle, one, other = 34 + index * 46, before[name], after.get(name, before[name])
        low, high = sorted((one, other))
        reach = (high - low) or abs(high) or 1.0
        at = {value: 8 + (value - low + 0.15 * reach) / (1.3 * reach) * 190 for value in (one, other)}
        color = BLUE if other >= one else VERMILLION
        arrow = "▲" if other > one else "▼" if other < one else "="
        rows.append(
            f"<text x='0' y='{middle - 14}' style='{_TEXT}'>{html.escape(name)}</text>"
            f"<line x1='8' x2='198' y1='{middle}' y2='{middle}' stroke='currentColor' "
            "opacity='.25'/>"
            f"<line x1='{at[one]:.1f}' x2='{at[other]:.1f}' y1='{middle}' y2='{middle}' stroke='{color}' "
            "stroke-width='4'/>"
            f"{_dot(f'{at[one]:.1f}', f'{middle}', color, filled=False)}"
            f"{_dot(f'{at[other]:.1f}', f'{middle}', color, filled=True)}"
            f"<text x='210' y='{middle + 4}' style='{_TEXT}'>"
            f"{one:.4f} → {other:.4f} {arrow}</text>"
        )
    said = ", ".join(f"{name} {value:.4f} to {after.get(name, value):.4f}" for name, value in before.items())
    key = (
        "<p class='note'>○ before the edit &nbsp; ● after it &nbsp; ▲ scored higher &nbsp; ▼ scored lower</p>"
    )
    return _svg(350, 20 + 46 * max(1, len(before)), "".join(rows), f"Scores: {said}") + key


def _figure(title: str, note: str, content: str) -> str:
    said = f"<p class='note'>{html.escape(note)}</p>" if note else ""
    return f"<figure><figcaption>{html.escape(title)}</figcaption>{content}{said}</figure>"


def _svg(width: float, height: float, content: str, said: str) -> str:
    return (
        f"<svg viewBox='0 0 {width} {height}' width='{width}' role='img' style='max-width:100%;height:auto' "
        f"aria-label='{html.escape(said, quote=True)}'>{content}</svg>"
    )


def _axes(x_low: float, x_high: float, y_low: float, y_high: float, grid: bool = True) -> str:
    drawn = []
    for value in _ticks(y_low, y_high):
        y = _up(value, y_low, y_high)
        if grid:
            drawn.append(
                f"<line x1='{_LEFT}' x2='{_WIDTH - _RIGHT}' y1='{y:.1f}' y2='{y:.1f}' "
                "stroke='currentColor' opacity='.15'/>"
            )
        drawn.append(
            f"<text x='{_LEFT - 6}' y='{y + 4:.1f}' text-anchor='end' style='{_QUIET}'>{value:.4g}</text>"
        )
    for value in _ticks(x_low, x_high):
        x = _across(value, x_low, x_high)
        drawn.append(
            f"<text x='{x:.1f}' y='{_HEIGHT - 10}' text-anchor='middle' style='{_QUIET}'>{value:.4g}</text>"
        )
    bottom = _HEIGHT - _BOTTOM
    drawn.append(
        f"<line x1='{_LEFT}' x2='{_WIDTH - _RIGHT}' y1='{bottom}' y2='{bottom}' stroke='currentColor' "
        "opacity='.5'/>"
    )
    return "".join(drawn)


def _legend(series: Sequence[Series]) -> str:
    entries = "".join(
        "<span style='white-space:nowrap;margin-right:14px'>"
        "<svg width='26' height='10' style='display:inline' aria-hidden='true'>"
        f"<line x1='0' x2='26' y1='5' y2='5' "
        f"stroke='{one.color}' stroke-width='3' stroke-dasharray='{one.dash}'/></svg> "
        f"{html.escape(one.name)}</span>"
        for one in series
    )
    return f"<p class='note'>{entries}</p>"


def _dot(x: str, y: str, color: str, filled: bool) -> str:
    inside = color if filled else "white"
    return f"<circle cx='{x}' cy='{y}' r='6' fill='{inside}' stroke='{color}' stroke-width='2.5'/>"


def _finite(series: Series) -> Series:
    points = [(x, y) for x, y in series.points if isfinite(y)]
    return Series(series.name, series.color, points, series.dash)


def _span(values: Sequence[float], whole: bool = False) -> tuple[float, float]:
    """From the least to the greatest, with some room around values, or around a single one."""
    low, high = min(values), max(values)
    room = (high - low) * (0 if whole else 0.06) or (abs(high) * 0.1 if low == high else 0) or (low == high)
    return low - room, high + room


def _ticks(low: float, high: float) -> list[float]:
    """Three to six round numbers between them."""
    rough = (high - low) / 4 or 1.0
    size = 10 ** floor(log10(rough))
    step = next(size * factor for factor in (1, 2, 5, 10) if size * factor >= rough)
    first = ceil(low / step)
    return [round(number * step, 12) for number in range(first, floor(high / step) + 1)]


def _across(x: float, low: float, high: float) -> float:
    return _LEFT + (x - low) / ((high - low) or 1) * (_WIDTH - _LEFT - _RIGHT)


def _up(y: float, low: float, high: float) -> float:
    return _HEIGHT - _BOTTOM - (y - low) / ((high - low) or 1) * (_HEIGHT - _TOP - _BOTTOM)
