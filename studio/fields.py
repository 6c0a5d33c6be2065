"""Fields of the page's forms, and what was filled in."""

from collections.abc import Mapping
from typing import Any

import gradio as gr


def whole(label: str, value: int, low: int, high: int, info: str) -> gr.Slider:
    """A slider over whole numbers."""
    return gr.Slider(low, high, value=value, step=1, label=label, info=info)


def number(
    label: str, value: float, info: str, precision: int | None = None, elem_id: str | None = None
) -> gr.Number:
    """A number that always has a value."""
    return gr.Number(value, label=label, info=info, precision=precision, elem_id=elem_id)


def number_or_empty(label: str, info: str) -> gr.Textbox:
    """A number that may be left out. Gradio's own shows a 0 where there is none."""
    return gr.Textbox(label=label, info=info, max_lines=1, max_length=20)


def given(values: Mapping[str, Any]) -> dict[str, Any]:
    """The fields that were filled in; text without the blanks around it."""
    stripped = {name: value.strip() if isinstance(value, str) else value for name, value in values.items()}
    return {name: value for name, value in stripped.items() if value is not None and value != ""}
