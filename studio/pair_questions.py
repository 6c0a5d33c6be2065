"""What visitors look for among a job's pairs."""

from typing import Any, get_args

import gradio as gr

from retouche.contract.pair_search import PairQuery
from retouche.contract.stages import Action
from studio.browsing import PAGE
from studio.fields import given, number_or_empty


def build() -> list[Any]:
    """What to look for; in the order of `query`."""
    with gr.Row():
        text = gr.Textbox(label="Words", placeholder="red circle", elem_id="words", max_lines=1)
        action = gr.Dropdown([("any", ""), *get_args(Action)], value="", label="Instruction")
        decision = gr.Dropdown(
            [("any", "any"), ("undecided", "none"), ("accepted", "accept"), ("rejected", "reject"),
             ("flipped", "flip")],
            value="any",
            label="Decision",
        )  # fmt: skip
        order = gr.Dropdown(
            [("as curated", "curated"), ("margin", "margin"), ("disagreement", "disagreement")],
            value="curated",
            label="Order",
            elem_id="order",
        )
        descending = gr.Checkbox(False, label="largest first")
    with gr.Accordion("Margins and disagreement", open=False), gr.Row():
        info = "In units of each model's usual difference."
        low = number_or_empty("Margin at least", info)
        high = number_or_empty("Margin at most", info)
        torn = number_or_empty("Disagreement at least", info)
        reward = gr.Textbox(label="Margin of one reward model", placeholder="all", info="Then as raw scores.")
    return [text, action, decision, order, descending, low, high, torn, reward]


def query(text: str, action: str, decision: str, order: str, descending: bool, *numbers: Any) -> PairQuery:
    """What these fields ask for, its first page; ValidationError if a number is none."""
    names = ("min_margin", "max_margin", "min_disagreement", "reward")
    wanted = {"text": text, "action": action, "decision": decision, "order": order}
    wanted |= dict(zip(names, numbers, strict=True))
    return PairQuery.model_validate(given(wanted) | {"descending": descending, "limit": PAGE})
