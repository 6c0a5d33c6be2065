"""Model calls of one size only, so that an answer is the same to the last bit whatever its company."""

from collections.abc import Callable, Sequence
from typing import TypeVar

ItemT = TypeVar("ItemT")
AnswerT = TypeVar("AnswerT")


def in_full_batches(
    run: Callable[[Sequence[ItemT]], list[AnswerT]], size: int
) -> Callable[[Sequence[ItemT]], list[AnswerT]]:
    """`run` over 1 to `size` items, always called with exactly `size`, the last one repeated.

    Matrix kernels round differently for different batch sizes, so a picture or a score would differ in its
    last bits with the company it is in. At one size every row is computed alike, whatever its place; for
    pictures, if their sides are multiples of `pixel_step`: what is left over after whole vectors is not.
    """

    return lambda items: run(filled(items, size))[: len(items)]


def filled(items: Sequence[ItemT], size: int) -> list[ItemT]:
    """`items`, and the last one again as often as it takes to have `size`."""
    return [*items, *[items[-1]] * (size - len(items))]
