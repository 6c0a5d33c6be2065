"""A part of the page that is looked at again and again while it can be seen."""

from typing import Any

import gradio as gr


class Live:
    """Looks when its timer says so, and when the visitor's key changes."""

    def __init__(self, timer: gr.Timer, key: gr.Textbox, look: dict[str, Any]) -> None:
        self.timer = timer
        self.look = look | {"show_progress": "hidden", "queue": False}  # a look is over in milliseconds
        gr.on([timer.tick, key.change], **self.look, trigger_mode="always_last")
