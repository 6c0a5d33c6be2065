"""A contact sheet: a row a pair, with prompt, original, critique, instruction, edited image and scores."""

import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

from retouche.client.synchronous import Retouche
from retouche.contract.jobs import Job, PreferencePair

SCALE = 2  # device pixels a layout pixel: sharp on today's screens
WIDTH = 1120
MARGIN = 44
HEADER = 118
ROW = 148
PICTURE = 112
GAP = 26
MOST_ROWS = 16

_PAPER, _INK, _QUIET, _LINE = "#fbfaf8", "#1d1d1f", "#85838a", "#e7e4de"
_BETTER, _WORSE = "#23845c", "#b9b6bf"

_COLUMNS = {"prompt": 0, "original": 198, "critique": 340, "instruction": 530, "edited": 690, "scores": 832}


@dataclass(frozen=True)
class Row:
    """One pair with its two images."""

    pair: PreferencePair
    original: Image.Image
    edited: Image.Image


def write_sheet(client: Retouche, job_id: str, file: Path, most: int = MOST_ROWS) -> Path:
    """Fetch a job's first pairs and draw them into a PNG file."""
    job = client.job(job_id)
    rows: list[Row] = []
    for pair in client.pairs(job_id):
        if len(rows) == most:
            break
        rows.append(Row(pair, *(_open(client.image(image)) for image in (pair.original, pair.edited))))
    draw_sheet(job, rows).save(file, "PNG", optimize=True)
    return file


def draw_sheet(job: Job, rows: Sequence[Row]) -> Image.Image:
    """The sheet as an image, WIDTH x SCALE pixels wide."""
    height = HEADER + 34 + ROW * max(1, len(rows)) + MARGIN
    sheet = Sheet(height)
    _header(sheet, job, len(rows))
    for index, row in enumerate(rows):
        _row(sheet, HEADER + 34 + index * ROW, row)
    if not rows:
        sheet.text(MARGIN, HEADER + 60, "This job has no pairs yet.", 15, _QUIET)
    return sheet.image


class Sheet:
    """Paper to draw on in layout pixels."""

    def __init__(self, height: int) -> None:
        self.image = Image.new("RGB", (WIDTH * SCALE, height * SCALE), _PAPER)
        self._draw = ImageDraw.Draw(self.image)

    def text(self, x: float, y: float, text: str, size: float, color: str = _INK) -> None:
        self._draw.text((x * SCALE, y * SCALE), text, color, _font(size))

    def width(self, text: str, size: float) -> float:
        return self._draw.textlength(text, _font(size)) / SCALE

    def wrapped(
        self, x: float, y: float, text: str, size: float, width: float, color: str = _INK, most: int = 6
    ) -> float:
        """Draw text within `width`, at most `most` lines; where the next line would begin."""
        lines = self._lines(text, size, width)
        if len(lines) > most:
            lines = [*lines[: most - 1], lines[most - 1].rstrip(" .,") + " …"]
        for line in lines:
            self.text(x, y, line, size, color)
            y += size * 1.4
        return y

    def line(self, y: float, color: str = _LINE) -> None:
        self._draw.line([(MARGIN * SCALE, y * SCALE), ((WIDTH - MARGIN) * SCALE, y * SCALE)], color, SCALE)

    def bar(self, x: float, y: float, width: float, height: float, color: str) -> None:
        box = [x * SCALE, y * SCALE, (x + width) * SCALE, (y + height) * SCALE]
        self._draw.rounded_rectangle(box, height * SCALE / 2, color)

    def picture(self, x: float, y: float, image: Image.Image, frame: str | None) -> None:
        """A picture in a square of PICTURE, crisp where it is small, with a frame if it was chosen."""
        side = PICTURE * SCALE
        larger = max(image.size) < side
        ratio = side / max(image.size)
        size = (round(image.width * ratio), round(image.height * ratio))
        shown = image.resize(size, Image.Resampling.NEAREST if larger else Image.Resampling.LANCZOS)
        left, top = round(x * SCALE), round(y * SCALE)
        self.image.paste(shown, (left + (side - size[0]) // 2, top + (side - size[1]) // 2))
        pad, width = (5 * SCALE, 3 * SCALE) if frame else (0, 1)
        box = [left - pad, top - pad, left + side + pad, top + side + pad]
        self._draw.rounded_rectangle(box, 7 * SCALE if frame else 0, None, frame or _LINE, width)

    def _lines(self, text: str, size: float, width: float) -> list[str]:
        lines = [""]
        for word in text.split():
            longer = f"{lines[-1]} {word}".strip()
            if self.width(longer, size) <= width or not lines[-1]:
                lines[-1] = longer
            else:
                lines.append(word)
        return lines


def _header(sheet: Sheet, job: Job, shown: int) -> None:
    report = job.report
    sheet.text(MARGIN, 34, "Preference pairs by critique and correction", 25)
    figures = [
        job.id,
        f"{report.prompts:,} prompts",
        f"{report.images:,} images",
        f"{report.edits:,} edits",
        f"{report.pairs:,} pairs" + (f", the first {shown} shown" if shown < report.pairs else ""),
    ]
    sheet.text(MARGIN, 72, "   ·   ".join(figures), 13.5, _QUIET)
    for name, x in _COLUMNS.items():
        sheet.text(MARGIN + x, HEADER - 2, name, 12.5, _QUIET)
    note = "framed: chosen"
    sheet.bar(WIDTH - MARGIN - sheet.width(note, 12.5) - 20, 77, 12, 8, _BETTER)
    sheet.text(WIDTH - MARGIN - sheet.width(note, 12.5), 73, note, 12.5, _QUIET)
    sheet.line(HEADER + 22)


def _row(sheet: Sheet, top: float, row: Row) -> None:
    pair, y = row.pair, top + (ROW - PICTURE) / 2
    at = {name: MARGIN + x for name, x in _COLUMNS.items()}
    width = {"prompt": 198 - GAP, "critique": 190 - GAP, "instruction": 160 - GAP}
    sheet.wrapped(at["prompt"], y + 4, pair.prompt, 14.5, width["prompt"], most=5)
    sheet.picture(at["original"], y, row.original, None if pair.chosen_is_edit else _BETTER)
    below = y + 4
    for finding in pair.findings[:3]:
        below = sheet.wrapped(
            at["critique"], below, f"{finding.subject} {finding.problem}", 13, width["critique"]
        )
        below += 5
    sheet.wrapped(at["instruction"], y + 4, pair.instruction.text, 14.5, width["instruction"], most=5)
    sheet.picture(at["edited"], y, row.edited, _BETTER if pair.chosen_is_edit else None)
    _scores(sheet, at["scores"], y, pair)
    sheet.line(top + ROW)


def _scores(sheet: Sheet, x: float, y: float, pair: PreferencePair) -> None:
    """For each reward model a bar for the original and one for the edit, the larger score at full length."""
    original, edited = (
        (pair.rejected_scores, pair.chosen_scores)
        if pair.chosen_is_edit
        else (pair.chosen_scores, pair.rejected_scores)
    )
    room, left = WIDTH - 2 * MARGIN - _COLUMNS["scores"], 46
    for name in list(original)[:3]:
        sheet.text(x, y, name.replace("_", " "), 12, _QUIET)
        low, high = sorted((original[name], edited[name]))
        for label, value, offset in (("before", original[name], 21), ("after", edited[name], 36)):
            share = 1.0 if value == high else max(0.06, 1 - min(0.9, (high - low) / (abs(high) or 1)))
            color = _BETTER if value == high and high > low else _WORSE
            sheet.text(x, y + offset - 5, label, 11, _QUIET)
            sheet.bar(x + left, y + offset - 1, share * (room - left - 52), 6, color)
            sheet.text(
                x + room - 42, y + offset - 5, f"{value:.3f}", 11, _INK if color == _BETTER else _QUIET
            )
        y += 60


def _open(data: bytes) -> Image.Image:
    return Image.open(io.BytesIO(data)).convert("RGB")


def _font(size: float) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(size * SCALE)
