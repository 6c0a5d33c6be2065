"""Micro-batching: who shares a call, who is dropped, who is refused, who fails alone."""

import asyncio
import threading
import time
from collections.abc import Awaitable, Callable, Sequence

import pytest

from retouche.errors import BadImage, ModelFailure, Overloaded, Unavailable
from retouche.metrics import ServiceMetrics
from serving.batching import MicroBatcher


class Doubler:
    """A model that doubles numbers, remembers its batches, and can be held at work."""

    def __init__(self) -> None:
        self.batches: list[list[int]] = []
        self.free = threading.Event()
        self.at_work = threading.Event()
        self.free.set()

    def __call__(self, numbers: Sequence[int]) -> list[int]:
        self.batches.append(list(numbers))
        self.at_work.set()
        self.free.wait(10)
        if 13 in numbers:
            raise BadImage("13 is no picture")
        if 14 in numbers:
            raise ZeroDivisionError("14 breaks the model")
        return [2 * number for number in numbers]


def run(
    use: Callable[[MicroBatcher[int, int], Doubler], Awaitable[None]],
    max_batch: int = 8,
    max_waiting: int = 64,
    prepare: Callable[[int], Awaitable[int]] | None = None,
) -> Doubler:
    model = Doubler()

    async def main() -> None:
        batcher: MicroBatcher[int, int] = MicroBatcher(
            model,
            key=lambda n: n >= 100,
            max_batch=max_batch,
            max_waiting=max_waiting,
            metrics=ServiceMetrics(),
            prepare=prepare,
        )
        await batcher.start()
        await use(batcher, model)
        await batcher.stop()

    asyncio.run(main())
    return model


async def while_busy(
    batcher: MicroBatcher[int, int], model: Doubler, numbers: Sequence[int]
) -> list["asyncio.Task[int]"]:
    """Ask for 0, and for `numbers` while the model is still at work on it."""
    model.free.clear()
    tasks = [asyncio.create_task(batcher(0))]
    await asyncio.to_thread(model.at_work.wait, 10)
    tasks += [asyncio.create_task(batcher(number)) for number in numbers]
    await asyncio.sleep(0.01)
    return tasks


def test_what_gathers_while_the_model_is_busy_goes_together() -> None:
    async def use(batcher: MicroBatcher[int, int], model: Doubler) -> None:
        tasks = await while_busy(batcher, model, [1, 2, 3])
        model.free.set()
        assert await asyncio.gather(*tasks) == [0, 2, 4, 6]

    assert run(use).batches == [[0], [1, 2, 3]]


def test_a_full_batch_is_begun_right_behind_the_one_at_work_however_busy_the_event_loop_is() -> None:
    async def use(batcher: MicroBatcher[int, int], model: Doubler) -> None:
        tasks = await while_busy(batcher, model, [1, 2, 3, 4])
        model.at_work.clear()
        model.free.set()
        assert model.at_work.wait(10), "begun while this very line holds the event loop"
        assert await asyncio.gather(*tasks) == [0, 2, 4, 6, 8]

    assert run(use, max_batch=4).batches == [[0], [1, 2, 3, 4]]


def test_a_batch_with_room_waits_for_company_while_the_model_is_busy() -> None:
    async def use(batcher: MicroBatcher[int, int], model: Doubler) -> None:
        tasks = await while_busy(batcher, model, [1, 2, 3])
        tasks += [asyncio.create_task(batcher(4))]
        await asyncio.sleep(0)
        model.free.set()
        await asyncio.gather(*tasks)

    assert run(use, max_batch=4).batches == [[0], [1, 2, 3, 4]]


def test_a_crowd_that_finds_the_model_idle_goes_together() -> None:
    async def use(batcher: MicroBatcher[int, int], _: Doubler) -> None:
        assert await asyncio.gather(*(batcher(number) for number in (1, 2, 3))) == [2, 4, 6]
        assert await batcher(4) == 8, "who comes alone after a crowd is not kept waiting for it"

    assert run(use).batches == [[1, 2, 3], [4]]


def test_a_crowd_that_comes_back_one_by_one_goes_together_again() -> None:
    async def use(batcher: MicroBatcher[int, int], _: Doubler) -> None:
        await asyncio.gather(*(batcher(number) for number in (1, 2, 3)))
        tasks = []
        for number in (4, 5, 6):
            tasks.append(asyncio.create_task(batcher(number)))
            for _turn in range(3):
                await asyncio.sleep(0)
        assert await asyncio.gather(*tasks) == [8, 10, 12]

    assert run(use).batches == [[1, 2, 3], [4, 5, 6]]


def test_a_crowd_goes_together_again_though_the_event_loop_is_busy_with_its_answers() -> None:
    async def use(batcher: MicroBatcher[int, int], _: Doubler) -> None:
        await asyncio.gather(*(batcher(number) for number in (1, 2, 3)))
        tasks = [asyncio.create_task(batcher(4))]
        await asyncio.sleep(0.001)
        time.sleep(0.1)  # noqa: ASYNC251 (nobody is heard meanwhile)
        for _turn in range(5):
            await asyncio.sleep(0)
        tasks += [asyncio.create_task(batcher(number)) for number in (5, 6)]
        assert await asyncio.gather(*tasks) == [8, 10, 12]

    assert run(use).batches == [[1, 2, 3], [4, 5, 6]]


def test_one_who_calls_again_and_again_alone_is_not_kept_waiting_for_others() -> None:
    async def use(batcher: MicroBatcher[int, int], _: Doubler) -> None:
        for number in (1, 2, 3):
            await batcher(number)
        tasks = [asyncio.create_task(batcher(4))]
        for _turn in range(10):
            await asyncio.sleep(0)
        tasks.append(asyncio.create_task(batcher(5)))
        await asyncio.gather(*tasks)

    assert run(use).batches == [[1], [2], [3], [4], [5]]


def test_only_equal_keys_share_a_call_and_none_is_larger_than_allowed() -> None:
    async def use(batcher: MicroBatcher[int, int], model: Doubler) -> None:
        tasks = await while_busy(batcher, model, [1, 100, 2, 3, 101])
        model.free.set()
        await asyncio.gather(*tasks)

    assert run(use, max_batch=2).batches == [[0], [1, 2], [100, 101], [3]]


def test_an_item_whose_caller_has_gone_is_never_run() -> None:
    async def use(batcher: MicroBatcher[int, int], model: Doubler) -> None:
        tasks = await while_busy(batcher, model, [1, 2])
        tasks[1].cancel()
        await asyncio.sleep(0)
        model.free.set()
        assert await tasks[2] == 4

    assert run(use).batches == [[0], [2]]


def test_nor_is_one_who_leaves_a_full_batch_that_waits_behind_the_one_at_work() -> None:
    async def use(batcher: MicroBatcher[int, int], model: Doubler) -> None:
        tasks = await while_busy(batcher, model, [1, 2])
        tasks[1].cancel()
        await asyncio.sleep(0)
        model.free.set()
        assert await tasks[2] == 4

    assert run(use, max_batch=2).batches == [[0], [2]]


def test_one_bad_item_fails_alone() -> None:
    async def use(batcher: MicroBatcher[int, int], model: Doubler) -> None:
        tasks = await while_busy(batcher, model, [1, 13, 14, 2])
        model.free.set()
        answers = await asyncio.gather(*tasks, return_exceptions=True)
        assert answers[1] == 2
        assert isinstance(answers[2], BadImage)
        assert isinstance(answers[3], ModelFailure)
        assert answers[4] == 4

    run(use)


def test_a_full_queue_refuses_and_says_when_to_come_back() -> None:
    async def use(batcher: MicroBatcher[int, int], model: Doubler) -> None:
        tasks = await while_busy(batcher, model, [1, 2])
        with pytest.raises(Overloaded) as refused:
            await batcher(3)
        assert refused.value.retry_after_seconds
        tasks[1].cancel()
        await asyncio.sleep(0)
        tasks.append(asyncio.create_task(batcher(4)))  # the place of the one who left
        model.free.set()
        assert await tasks[-1] == 8

    run(use, max_waiting=2)


def test_stopping_answers_what_waits_and_takes_nothing_more() -> None:
    async def use(batcher: MicroBatcher[int, int], model: Doubler) -> None:
        tasks = await while_busy(batcher, model, [1])
        stopping = asyncio.create_task(batcher.stop())
        await asyncio.sleep(0)
        with pytest.raises(Unavailable):
            await batcher(2)
        model.free.set()
        await stopping
        assert await asyncio.gather(*tasks) == [0, 2]

    run(use)


async def in_cents(number: int) -> int:
    """What the model takes; 7 is never ready, 9 takes a moment, 13 is refused."""
    if number == 7:
        await asyncio.Event().wait()
    if number == 9:
        await asyncio.sleep(0.1)
    if number == 13:
        raise BadImage("13 is no number of dollars")
    return 100 * number


def test_items_are_prepared_while_the_model_is_busy_each_for_itself() -> None:
    async def use(batcher: MicroBatcher[int, int], model: Doubler) -> None:
        tasks = await while_busy(batcher, model, [1, 13, 7, 2])
        assert isinstance(tasks[2].exception(), BadImage)
        tasks[3].cancel()
        model.free.set()
        assert [await tasks[1], await tasks[4]] == [200, 400]

    assert run(use, prepare=in_cents).batches == [[0], [100, 200]]


def test_what_is_still_prepared_has_its_place_in_the_queue_and_is_answered_before_the_end() -> None:
    async def use(batcher: MicroBatcher[int, int], model: Doubler) -> None:
        tasks = await while_busy(batcher, model, [9, 9])
        with pytest.raises(Overloaded):
            await batcher(3)
        model.free.set()
        await batcher.stop()
        assert await asyncio.gather(*tasks) == [0, 1800, 1800]

    run(use, max_waiting=2, prepare=in_cents)


def test_no_more_is_prepared_than_the_model_will_take_soon() -> None:
    ready: list[int] = []

    async def prepare(number: int) -> int:
        ready.append(number)
        return number

    async def use(batcher: MicroBatcher[int, int], model: Doubler) -> None:
        tasks = await while_busy(batcher, model, range(21, 41))
        assert ready == [0, *range(21, 33)], "one at work, a batch of four behind it, and two more"
        tasks.pop(9).cancel()
        await asyncio.sleep(0.01)
        assert ready == [0, *range(21, 34)], "one more for one who left"
        model.free.set()
        assert await asyncio.gather(*tasks) == [0, *(2 * number for number in range(21, 41) if number != 29)]

    run(use, max_batch=4, prepare=prepare)
