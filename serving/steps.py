"""What a model does for a batch, in two parts: one batch is prepared while another one runs."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

ItemT = TypeVar("ItemT")
AnswerT = TypeVar("AnswerT")


@dataclass(frozen=True)
class Step(Generic[ItemT, AnswerT]):
    """`run` of what `prepare` makes of a batch: one answer for each item, in their order.

    `prepare` may be done in a fork of the process that runs: without the accelerator, on one thread, and what
    it makes is pickled.
    """

    prepare: Callable[[Sequence[ItemT]], Any]
    run: Callable[[Any], list[AnswerT]]

    def __call__(self, batch: Sequence[ItemT]) -> list[AnswerT]:
        return self.run(self.prepare(batch))
