"""Images to start from out of data sets: folders of images, Parquet with images, pairs of Pick-a-Pic."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from retouche.errors import BadPrompts
from retouche.intake.prompts import COLUMNS, choose_column, prompt_of, rows_with_prompts
from retouche.intake.rows import Row, Skipped, open_file
from retouche.intake.sources import files_of

Side = Literal["chosen", "rejected", "both"]

IMAGE_COLUMNS = ("image", "jpg", "png", "webp", "img")
_ENDINGS = (".png", ".jpg", ".jpeg", ".webp")
_METADATA = ("metadata.jsonl", "metadata.csv")  # as in an image folder of `datasets`
_PAIR = ("jpg_0", "jpg_1", "label_0", "label_1")


@dataclass(frozen=True)
class Existing:
    """An image as it was found, not decoded, with its prompt; `encoded` is None where there is none."""

    prompt: str
    origin: str
    encoded: bytes | None


@dataclass(frozen=True)
class Wanted:
    """What to take: `side` of pairs; columns where they are not recognised."""

    side: Side = "rejected"
    column: str | None = None
    image_column: str | None = None


def images_of(source: Path | str, wanted: Wanted, skipped: Skipped) -> Iterator[Existing]:
    """Every image of the data set with its prompt; rows without a prompt are told in `skipped`.

    Raises:
        BadPrompts: a file cannot be read or lacks a column, or there is no image at all.
    """
    empty = True
    for existing in _found(source, wanted, skipped):
        empty = False
        yield existing
    if empty:
        raise BadPrompts(f"{source} holds no image; " + (skipped.problems or ["it has no rows"])[0])


def _found(source: Path | str, wanted: Wanted, skipped: Skipped) -> Iterator[Existing]:
    images = [file for file in sorted(Path(source).glob("*")) if file.suffix.lower() in _ENDINGS]
    if images:
        yield from _folder(Path(source), images, wanted, skipped)
        return
    for name, path in files_of(source):
        file = open_file(path, name)
        prompts = choose_column(file, wanted.column, COLUMNS, "--column")
        if wanted.image_column is None and set(_PAIR) <= set(file.columns or ()):
            models = [name for name in ("model_0", "model_1") if name in (file.columns or ())]
            for row, prompt in rows_with_prompts(file, prompts, (*_PAIR, *models), skipped):
                yield from _of_pair(row, prompt, wanted.side, skipped)
        else:
            (column, *_) = choose_column(file, wanted.image_column, IMAGE_COLUMNS, "--image-column")
            for row, prompt in rows_with_prompts(file, prompts, (column,), skipped):
                yield Existing(prompt, f"{row.place}, column {column}", _encoded(row.values.get(column)))


def _folder(folder: Path, images: list[Path], wanted: Wanted, skipped: Skipped) -> Iterator[Existing]:
    """Images whose prompts stand in metadata.jsonl or .csv under `file_name`, or in a .txt beside each."""
    metadata = next((folder / name for name in _METADATA if (folder / name).is_file()), None)
    if metadata is None:
        yield from _captioned(images, skipped)
        return
    file = open_file(metadata, str(metadata))
    prompts, there = choose_column(file, wanted.column, COLUMNS, "--column"), set(images)
    for row, prompt in rows_with_prompts(file, prompts, ("file_name",), skipped):
        image = folder / str(row.values.get("file_name"))
        if image in there:
            yield Existing(prompt, str(image), image.read_bytes())
        else:
            skipped.add(row.place, f"file_name {row.values.get('file_name')!r} is no image of the folder")


def _captioned(images: list[Path], skipped: Skipped) -> Iterator[Existing]:
    for image in images:
        try:
            text = image.with_suffix(".txt").read_text(encoding="utf-8", errors="surrogateescape")
            yield Existing(prompt_of({"prompt": text}, ("prompt",)), str(image), image.read_bytes())
        except FileNotFoundError:
            skipped.add(
                str(image), "there is no metadata.jsonl or .csv, and no .txt with its prompt beside it"
            )
        except BadPrompts as error:
            skipped.add(str(image.with_suffix(".txt")), error.detail)


def _of_pair(row: Row, prompt: str, side: Side, skipped: Skipped) -> Iterator[Existing]:
    roles = _roles(row.values["label_0"], row.values["label_1"])
    taken = [index for index in (0, 1) if side in ("both", roles[index])]
    if not taken:
        skipped.add(row.place, f"is a tie: neither image is the {side} one")
    for index in taken:
        model = row.values.get(f"model_{index}")
        origin = f"{row.place}, jpg_{index}, {roles[index]}" + (f", by {model}" if model else "")
        yield Existing(prompt, origin, _encoded(row.values[f"jpg_{index}"]))


def _roles(label_0: float | None, label_1: float | None) -> tuple[str, str]:
    if label_0 is None or label_1 is None or label_0 == label_1:
        return "tied", "tied"
    return ("chosen", "rejected") if label_0 > label_1 else ("rejected", "chosen")


def _encoded(value: object) -> bytes | None:
    """Bytes as they are, or within the struct that `datasets` stores images as."""
    found = value.get("bytes") if isinstance(value, Mapping) else value
    return found if isinstance(found, bytes) and found else None
