"""Micro-batching: concurrent requests become one model call where their parameters allow it.

Items are prepared as they come. While the model is busy they gather; when it is free it takes what is there,
after a moment of waiting for more where a batch has room. A full batch waits right behind the one at work:
the model goes on to it without a word with the event loop, which may be busy with answers. An item whose
caller has gone before its batch was given to the model is never run. One bad item fails alone.
"""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Hashable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

from retouche.errors import ModelFailure, Overloaded, RetoucheError, Unavailable
from retouche.metrics import ServiceMetrics

RequestT = TypeVar("RequestT")
ResponseT = TypeVar("ResponseT")

_BATCHES_AHEAD = 2  # are prepared, beside those given to the model: pixels are larger than pictures
_GATHER_SHARE = 0.05  # of a call's time may pass without a newcomer before it begins
_LOOKS = 2  # the first may end while answers are still being sent, and nobody who got one was heard
_LEAST_GATHER_SECONDS = 0.0005
_MOST_GATHER_SECONDS = 0.05

_log = logging.getLogger("retouche.serving")


@dataclass(eq=False)
class _Item(Generic[ResponseT]):
    key: Hashable
    prepared: Any = None
    answer: "asyncio.Future[ResponseT]" = field(
        default_factory=lambda: asyncio.get_running_loop().create_future()
    )


class MicroBatcher(Generic[RequestT, ResponseT]):
    """Runs `model` on batches of requests with equal `key`, in threads of its own.

    `model` takes 1 to `max_batch` requests, as `prepare` made them, and returns their answers in order.
    """

    def __init__(
        self,
        model: Callable[[Sequence[Any]], Sequence[ResponseT]],
        *,
        key: Callable[[RequestT], Hashable],
        max_batch: int,
        max_waiting: int,
        metrics: ServiceMetrics,
        prepare: Callable[[RequestT], Awaitable[Any]] | None = None,
        at_once: int = 1,
    ) -> None:
        """`at_once`: calls that `model` takes at a time; 2 where it receives one while another one runs."""
        self._model = model
        self._prepare = prepare
        self._key = key
        self._max_batch = max_batch
        self._max_waiting = max_waiting
        self._metrics = metrics
        self._waiting: list[_Item[ResponseT]] = []
        self._ahead = asyncio.Semaphore(_BATCHES_AHEAD * max_batch)
        self._preparing = 0
        self._crowd = max_batch
        self._before = 0
        self._arrived = asyncio.Event()
        self._complete = asyncio.Event()
        self._stopping = False
        self._threads = ThreadPoolExecutor(at_once, thread_name_prefix="model")
        self._runner: asyncio.Task[None] | None = None
        self._seconds_per_item = self._seconds_per_call = 0.1
        self._ended = 0.0

    async def start(self) -> None:
        self._runner = asyncio.create_task(self._run(), name="micro-batcher")

    async def stop(self) -> None:
        """Take nothing more, answer everything that waits, and end the thread."""
        self._stopping = True
        self._arrived.set()
        self._complete.set()
        if self._runner is not None:
            await self._runner
        self._threads.shutdown()

    async def __call__(self, request: RequestT) -> ResponseT:
        """The model's answer to one request.

        Raises:
            Overloaded: too many items wait already.
            Unavailable: the service is shutting down.
            RetoucheError: what the model made of this very item; ModelFailure for anything unexpected.
        """
        self._admit()
        item: _Item[ResponseT] = _Item(self._key(request))
        item.prepared = request if self._prepare is None else await self._prepared(self._prepare, request)
        self._waiting.append(item)
        self._arrived.set()
        if len(self._waiting) >= self._crowd:
            self._complete.set()
        self._metrics.waiting.inc()
        try:
            return await item.answer
        finally:
            self._forget(item)

    def _admit(self) -> None:
        if self._stopping:
            raise Unavailable("this service is shutting down; retry elsewhere", retry_after_seconds=1)
        waiting = len(self._waiting) + self._preparing
        if waiting >= self._max_waiting:
            wait = max(0.5, waiting * self._seconds_per_item)
            raise Overloaded(
                f"{waiting} items wait for this model, its limit; retry in {wait:.1f} s",
                retry_after_seconds=wait,
            )

    async def _prepared(self, prepare: Callable[[RequestT], Awaitable[Any]], request: RequestT) -> Any:
        self._preparing += 1
        self._metrics.waiting.inc()
        try:
            await self._ahead.acquire()
            try:
                return await prepare(request)
            except BaseException:
                self._ahead.release()
                raise
        except asyncio.CancelledError:
            self._metrics.abandoned.inc()
            raise
        finally:
            self._preparing -= 1
            self._metrics.waiting.dec()
            self._arrived.set()

    def _leave(self, items: Sequence[_Item[ResponseT]]) -> None:
        """They wait no more."""
        left = set(map(id, items))
        self._waiting = [item for item in self._waiting if id(item) not in left]
        self._metrics.waiting.dec(len(items))
        if self._prepare is not None:
            for _ in items:
                self._ahead.release()

    def _forget(self, item: _Item[ResponseT]) -> None:
        """Nobody waits for the item any more: if it has not been run, it never will be."""
        if item.answer.cancelled() and item in self._waiting:
            self._leave([item])
            self._metrics.abandoned.inc()

    async def _run(self) -> None:
        at_work: asyncio.Task[None] | None = None
        while await self._any():
            if at_work is not None:
                await self._free_or_full(at_work)
            await self._gather()
            if batch := self._take():
                behind = asyncio.create_task(self._answer_crowd(batch))
                if at_work is not None:
                    await at_work
                at_work = behind
        if at_work is not None:
            await at_work

    async def _any(self) -> bool:
        """Wait for items; False if there will be none any more."""
        while not self._waiting and (self._preparing or not self._stopping):
            self._arrived.clear()
            await self._arrived.wait()
        return bool(self._waiting)

    async def _free_or_full(self, at_work: "asyncio.Task[None]") -> None:
        """Wait until the model is free, or a batch that nobody could join any more is complete."""
        if not at_work.done():
            at_work.add_done_callback(lambda _: self._complete.set())
        while not at_work.done() and len(self._next()) < self._max_batch:
            self._complete.clear()
            await self._complete.wait()

    async def _gather(self) -> None:
        """Wait a moment for company: callers come in crowds.

        A crowd is complete when all are there who wait and who were answered by the two calls before, or when
        no more of it has come for a small part of the time that a call takes. Nobody is waited for where one
        caller alone was answered by both.
        """
        seen, quiet = self._here(), 0
        while quiet < _LOOKS and len(self._waiting) < self._crowd and not self._stopping:
            self._complete.clear()
            with suppress(TimeoutError):
                async with asyncio.timeout(self._gather_seconds()):
                    await self._complete.wait()
            quiet = quiet + 1 if self._here() == seen else 0
            seen = self._here()

    def _here(self) -> tuple[int, int]:
        return len(self._waiting), self._preparing

    def _gather_seconds(self) -> float:
        share = _GATHER_SHARE * self._seconds_per_call
        return min(max(share, _LEAST_GATHER_SECONDS), _MOST_GATHER_SECONDS)

    def _next(self) -> list[_Item[ResponseT]]:
        """The item that has waited longest, and up to `max_batch` - 1 others that can go with it."""
        first = self._waiting[:1]
        return [item for item in self._waiting if item.key == first[0].key][: self._max_batch]

    def _take(self) -> list[_Item[ResponseT]]:
        batch = self._next()
        self._leave(batch)
        return batch

    async def _answer_crowd(self, batch: list[_Item[ResponseT]]) -> None:
        await self._answer(batch)
        # Those answered now are likely to come back, and those before may be on their way, but for a lone
        # caller who was answered both times.
        here = len(self._waiting) + self._preparing
        lone = here == 0 and len(batch) == self._before == 1
        expected, self._before = here + len(batch) + self._before, len(batch)
        self._crowd = 1 if lone else min(expected, self._max_batch)

    async def _answer(self, batch: list[_Item[ResponseT]]) -> None:
        """Run the model for the batch; where that fails, for each item again by itself."""
        call = asyncio.get_running_loop().run_in_executor(self._threads, self._call, batch)
        await asyncio.wait({call})
        error = call.exception()
        if error is None:
            for item, response in call.result():
                if not item.answer.done():
                    item.answer.set_result(response)
        elif len(batch) > 1:
            for item in batch:
                if not item.answer.done():
                    await self._answer([item])
        elif not batch[0].answer.done():
            batch[0].answer.set_exception(_failure(error))

    def _call(self, batch: list[_Item[ResponseT]]) -> list[tuple[_Item[ResponseT], ResponseT]]:
        """The items whose callers have not gone, each with its answer."""
        wanted = [item for item in batch if not item.answer.done()]
        self._metrics.abandoned.inc(len(batch) - len(wanted))
        if not wanted:
            return []
        began = time.perf_counter()
        responses = self._model([item.prepared for item in wanted])
        if len(responses) != len(wanted):
            raise ModelFailure(f"the model gave {len(responses)} answers to {len(wanted)} requests")
        ended = time.perf_counter()
        seconds = ended - max(began, self._ended)  # without what it waited behind another call
        self._ended = ended
        self._metrics.batch_size.observe(len(wanted))
        self._metrics.model_seconds.inc(seconds)
        self._seconds_per_call += 0.2 * (seconds - self._seconds_per_call)
        self._seconds_per_item += 0.2 * (seconds / len(wanted) - self._seconds_per_item)
        return list(zip(wanted, responses, strict=True))


def _failure(error: BaseException) -> RetoucheError:
    if isinstance(error, RetoucheError):
        return error
    _log.error("the model failed", exc_info=error)
    return ModelFailure(f"the model failed on this request ({type(error).__name__}); the log has more")
