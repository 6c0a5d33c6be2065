"""Work side by side: results in order, and one failure ends it all at once, as itself."""

import asyncio

import pytest

from retouche.errors import ModelFailure, StoreFull
from retouche.together import together


def test_results_come_in_the_order_of_the_work() -> None:
    async def after(seconds: float) -> float:
        await asyncio.sleep(seconds)
        return seconds

    assert asyncio.run(together(after(seconds) for seconds in (0.02, 0.0, 0.01))) == [0.02, 0.0, 0.01]


def test_one_failure_cancels_the_others_and_keeps_its_class_and_cause() -> None:
    ended = []

    async def endless() -> None:
        try:
            await asyncio.sleep(3600)
        except asyncio.CancelledError:
            ended.append("cancelled")
            raise

    async def fails() -> None:
        await asyncio.sleep(0)
        raise StoreFull("no space") from ModelFailure("the cause")

    async def nested() -> None:
        await together([fails(), endless()])

    with pytest.raises(StoreFull) as failure:
        asyncio.run(together([nested(), endless()]))
    assert isinstance(failure.value.__cause__, ModelFailure)
    assert ended == ["cancelled", "cancelled"]
