"""What a model does for a batch, in two parts: items are prepared as they come, while a batch runs."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

ItemT = TypeVar("ItemT")
PreparedT = TypeVar("PreparedT")
AnswerT = TypeVar("AnswerT")


@dataclass(frozen=True)
class Step(Generic[ItemT, PreparedT, AnswerT]):
    """Both give one thing for each that they are given, in their order.

    `prepare` may be done in a fork of the process that runs: without the accelerator, and on one thread. What
    it makes is pickled, for which arrays of numpy are a tenth of the work that tensors are.
    """

    prepare: Callable[[Sequence[ItemT]], list[PreparedT]]
    run: Callable[[Sequence[PreparedT]], list[AnswerT]]

    def __call__(self, batch: Sequence[ItemT]) -> list[AnswerT]:
        return self.run(self.prepare(batch))
