"""Prompts out of data sets: of a column that is named, or recognised."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

from retouche.contract.payload import Prompt
from retouche.errors import BadPrompts
from retouche.intake.rows import DataFile, Row, Skipped, Unreadable, open_file, undecodable
from retouche.intake.sources import files_of

COLUMNS = ("prompt", "Prompt", "caption", "text")  # HPDv2's, PartiPrompts', Pick-a-Pic's, and a frequent one

_PROMPT: TypeAdapter[str] = TypeAdapter(Prompt)


def prompts_of(source: Path | str, column: str | None, skipped: Skipped) -> Iterator[str]:
    """Every prompt of a file, a folder or a data set of the Hub; rows without one are told in `skipped`.

    Raises:
        BadPrompts: a file cannot be read or lacks the column, or there is no prompt at all.
    """
    empty = True
    for name, path in files_of(source):
        file = open_file(path, name)
        columns = choose_column(file, column, COLUMNS, "--column")
        for _, prompt in rows_with_prompts(file, columns, (), skipped):
            empty = False
            yield prompt
    if empty:
        raise BadPrompts(f"{source} holds no prompt; " + (skipped.problems or ["it has no rows"])[0])


def rows_with_prompts(
    file: DataFile, columns: tuple[str, ...], others: tuple[str, ...], skipped: Skipped
) -> Iterator[tuple[Row, str]]:
    """The rows whose prompt, in the first of `columns` that a row has, can be used; read with `others`."""
    for row in file.read((*columns, *others)):
        if isinstance(row, Unreadable):
            skipped.add(row.place, row.problem)
            continue
        try:
            prompt = prompt_of(row.values, columns)
        except BadPrompts as error:
            skipped.add(row.place, error.detail)
            continue
        yield row, prompt


def choose_column(file: DataFile, wanted: str | None, known: tuple[str, ...], option: str) -> tuple[str, ...]:
    """The column to read; where every row names its own columns, those to look for.

    Raises:
        BadPrompts: the file has no such column; says which it has.
    """
    candidates = (wanted,) if wanted else known
    if file.columns is None:
        return candidates
    if (found := next((name for name in candidates if name in file.columns), None)) is None:
        what = f"no column {wanted!r}" if wanted else f"none of the columns {', '.join(known)}"
        raise BadPrompts(f"{file.name} has {what}; it has {', '.join(file.columns)}: name one with {option}")
    return (found,)


def prompt_of(values: Mapping[str, Any], columns: tuple[str, ...]) -> str:
    """The prompt of a row; BadPrompts, with the column, if it has none that can be used."""
    if (column := next((name for name in columns if name in values), None)) is None:
        raise BadPrompts(f"has no {' or '.join(columns)}, but {', '.join(map(ascii, values)) or 'nothing'}")
    text = values[column]
    if not isinstance(text, str):
        raise BadPrompts(f"column {column!r} holds {str(text)[:60]!r}, which is no text")
    if undecodable(text):
        raise BadPrompts(f"column {column!r} is not UTF-8")
    try:
        return _PROMPT.validate_python(text)
    except ValidationError as error:
        problem = error.errors()[0]["msg"]
        raise BadPrompts(f"column {column!r}: {problem}; it begins {text[:60]!r}") from None
