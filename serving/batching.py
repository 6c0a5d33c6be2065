"""Micro-batching: concurrent requests become one model call where their parameters allow it.

Work-conserving: while the model is busy items gather; the moment it is free it takes what is there. An item
whose caller has gone is never run. One bad item fails alone.
"""

import asyncio
import logging
import time
from collections import OrderedDict, deque
from collections.abc import Callable, Hashable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from retouche.errors import ModelFailure, Overloaded, RetoucheError, Unavailable
from serving.metrics import Metrics

RequestT = TypeVar("RequestT")
ResponseT = TypeVar("ResponseT")

_log = logging.getLogger("retouche.serving")


@dataclass
class _Item(Generic[RequestT, ResponseT]):
    request: RequestT
    answer: "asyncio.Future[ResponseT]" = field(
        default_factory=lambda: asyncio.get_running_loop().create_future()
    )


class MicroBatcher(Generic[RequestT, ResponseT]):
    """Runs `model` on batches of requests with equal `key`, in one thread of its own.

    `model` takes 1 to `max_batch` requests and returns as many answers, in their order.
    """

    def __init__(
        self,
        model: Callable[[Sequence[RequestT]], Sequence[ResponseT]],
        *,
        key: Callable[[RequestT], Hashable],
        max_batch: int,
        max_waiting: int,
        metrics: Metrics,
        gather_seconds: float = 0.003,
    ) -> None:
        self._model = model
        self._key = key
        self._max_batch = max_batch
        self._max_waiting = max_waiting
        self._metrics = metrics
        self._gather_seconds = gather_seconds
        self._groups: OrderedDict[Hashable, deque[_Item[RequestT, ResponseT]]] = OrderedDict()
        self._waiting = 0
        self._arrived = asyncio.Event()
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="model")
        self._runner: asyncio.Task[None] | None = None
        self._seconds_per_item = 0.1

    async def start(self) -> None:
        self._runner = asyncio.create_task(self._run(), name="micro-batcher")

    async def stop(self) -> None:
        """Finish the call at work; what still waits is answered Unavailable."""
        if self._runner is not None:
            self._runner.cancel()
            await asyncio.gather(self._runner, return_exceptions=True)
        for group in self._groups.values():
            for item in group:
                if not item.answer.done():
                    item.answer.set_exception(Unavailable("this service is shutting down; retry elsewhere"))
        self._thread.shutdown(wait=True)

    async def __call__(self, request: RequestT) -> ResponseT:
        """The model's answer to one request.

        Raises:
            Overloaded: too many items wait already.
            RetoucheError: what the model made of this very item; ModelFailure for anything unexpected.
        """
        if self._waiting >= self._max_waiting:
            wait = max(0.5, self._waiting * self._seconds_per_item)
            raise Overloaded(
                f"{self._waiting} items wait for this model, its limit; retry in {wait:.1f} s",
                retry_after_seconds=wait,
            )
        item: _Item[RequestT, ResponseT] = _Item(request)
        self._groups.setdefault(self._key(request), deque()).append(item)
        self._count(1)
        self._arrived.set()
        try:
            return await item.answer
        finally:
            item.answer.cancel()  # nobody waits any more: if it has not been run, it never will be

    def _count(self, change: int) -> None:
        self._waiting += change
        self._metrics.waiting.set(self._waiting)

    async def _run(self) -> None:
        while True:
            if not self._groups:
                self._arrived.clear()
                await self._arrived.wait()
                await asyncio.sleep(self._gather_seconds)  # let those that arrive together go together
            if batch := self._take():
                await self._answer(batch)

    def _take(self) -> list[_Item[RequestT, ResponseT]]:
        """Up to `max_batch` items of the group that has waited longest, those without a caller dropped."""
        if not self._groups:
            return []
        key, group = next(iter(self._groups.items()))
        batch: list[_Item[RequestT, ResponseT]] = []
        while group and len(batch) < self._max_batch:
            item = group.popleft()
            self._count(-1)
            if item.answer.done():
                self._metrics.abandoned.inc()
            else:
                batch.append(item)
        if group:
            self._groups.move_to_end(key)
        else:
            del self._groups[key]
        return batch

    async def _answer(self, batch: list[_Item[RequestT, ResponseT]]) -> None:
        outcomes = await self._call([item.request for item in batch])
        for item, outcome in zip(batch, outcomes, strict=True):
            if item.answer.done():
                continue
            if isinstance(outcome, RetoucheError):
                item.answer.set_exception(outcome)
            else:
                item.answer.set_result(outcome)

    async def _call(self, requests: list[RequestT]) -> list[ResponseT | RetoucheError]:
        """The model's answers; where a batch fails, each item again by itself."""
        began = time.perf_counter()
        try:
            answers = await asyncio.get_running_loop().run_in_executor(self._thread, self._model, requests)
        except RetoucheError as error:
            failure: RetoucheError = error
        except Exception as error:  # noqa: BLE001 - a model may raise anything; its caller gets a problem
            _log.error("the model failed on a batch of %d", len(requests), exc_info=error)
            failure = ModelFailure(f"the model failed: {type(error).__name__}: {error}")
        else:
            self._measure(len(requests), time.perf_counter() - began)
            return list(answers)
        if len(requests) == 1:
            return [failure]
        return [outcome for request in requests for outcome in await self._call([request])]

    def _measure(self, size: int, seconds: float) -> None:
        self._metrics.batch_size.observe(size)
        self._metrics.model_seconds.inc(seconds)
        self._seconds_per_item += 0.2 * (seconds / size - self._seconds_per_item)
