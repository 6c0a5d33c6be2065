"""How many calls are under way to one service: fewer when it refuses, one more a round when it does not."""

import asyncio
import re
from functools import partial

import pytest

from retouche.errors import (
    ConnectionBroken,
    DeadlineExceeded,
    Forbidden,
    ModelFailure,
    NotFound,
    Overloaded,
    RetoucheError,
    ServiceUnreachable,
    StoreFull,
    StoreRefused,
    Unauthorized,
)
from worker.limits import Limit, ServiceAway


class Service:
    """Answers what it is told, in order, then "answer"; knows how many calls are and were under way."""

    def __init__(self, *errors: RetoucheError, capacity: int = 1_000) -> None:
        self.errors = list(errors)
        self.capacity = capacity
        self.calls = self.under_way = self.most = self.refused = 0

    async def __call__(self) -> str:
        self.calls += 1
        if self.errors:
            raise self.errors.pop(0)
        if self.under_way >= self.capacity:
            self.refused += 1
            raise Overloaded("full", retry_after_seconds=0.01)
        self.under_way += 1
        self.most = max(self.most, self.under_way)
        await asyncio.sleep(0.002)
        self.under_way -= 1
        return "answer"


async def call_often(limit: Limit, service: Service, times: int) -> list[str]:
    return await asyncio.gather(*(limit(service) for _ in range(times)))


def test_no_more_than_the_most_are_under_way() -> None:
    service = Service()
    answers = asyncio.run(call_often(Limit("reward", 4, 10), service, 40))
    assert answers == ["answer"] * 40
    assert service.most == 4


def test_calls_beyond_a_services_capacity_are_made_again_until_answered() -> None:
    service = Service(capacity=3)
    assert asyncio.run(call_often(Limit("reward", 32, 10), service, 100)) == ["answer"] * 100
    assert service.refused < 100, "it learnt how much the service takes"


def test_calls_refused_together_lower_the_limit_once() -> None:
    async def scenario() -> float:
        limit, refusals = Limit("reward", 8, 10), iter(range(8))

        async def refused_at_first() -> str:
            await asyncio.sleep(0.005)
            if next(refusals, None) is not None:
                raise Overloaded("full", retry_after_seconds=0.001)
            return "answer"

        await asyncio.gather(*(limit(refused_at_first) for _ in range(8)))
        return limit.allowed

    assert 8 * 0.8 <= asyncio.run(scenario()) <= 8


@pytest.mark.parametrize(
    "error",
    [Overloaded("full", retry_after_seconds=0.001), ServiceUnreachable("down")],
)
def test_a_retryable_error_is_waited_out(error: RetoucheError) -> None:
    service = Service(error)
    assert asyncio.run(Limit("reward", 4, 10)(service)) == "answer"
    assert service.calls == 2


def test_what_is_wrong_with_the_request_is_not_tried_again() -> None:
    service = Service(ModelFailure("no"))
    with pytest.raises(ModelFailure):
        asyncio.run(Limit("reward", 4, 10)(service))
    assert service.calls == 1


def test_a_refused_call_waits_as_long_as_asked_and_leaves_its_place_to_others() -> None:
    async def scenario() -> list[str]:
        service = Service(Overloaded("full", retry_after_seconds=30))
        limit = Limit("reward", 1, 100)
        refused = asyncio.create_task(limit(service))
        await asyncio.sleep(0)
        answers = await call_often(limit, service, 5)
        assert not refused.done()
        refused.cancel()
        return answers

    assert asyncio.run(scenario()) == ["answer"] * 5


def test_a_service_with_little_room_is_kept_busy() -> None:
    """Most of what is sent is taken: refusals are the exception, although nothing may wait there."""
    service = Service(capacity=8)
    assert len(asyncio.run(call_often(Limit("reward", 64, 10), service, 400))) == 400
    assert service.refused < 100
    assert service.most == 8


def test_a_call_that_always_times_out_fails_alone() -> None:
    async def scenario() -> list[object]:
        limit, service = Limit("reward", 4, 0.5), Service()

        async def never() -> str:
            await asyncio.sleep(0.001)
            raise DeadlineExceeded("no answer within 300 s")

        async def others() -> None:
            while True:
                await limit(service)

        busy = asyncio.create_task(others())
        results = await asyncio.gather(limit(never), return_exceptions=True)
        busy.cancel()
        return list(results)

    assert isinstance(asyncio.run(scenario())[0], DeadlineExceeded)


def test_a_service_that_stays_away_is_named() -> None:
    """Not at which address: a job's error is for whoever asked for it."""
    service = Service(*(ServiceUnreachable("nothing answers at http://10.0.0.7") for _ in range(1_000)))
    with pytest.raises(ServiceAway, match=r"the reward service [^:]*\(Service unreachable\); bring it up"):
        asyncio.run(Limit("reward", 4, 0.05)(service))


def test_a_call_given_up_leaves_its_place() -> None:
    async def scenario() -> str:
        limit = Limit("reward", 1, 10)
        waiting = asyncio.create_task(limit(asyncio.Event().wait))
        await asyncio.sleep(0)
        waiting.cancel()
        return await limit(Service())

    assert asyncio.run(scenario()) == "answer"


def test_the_only_call_fails_alone_when_it_always_times_out() -> None:
    """There is no other answer to tell the item from the service by: the rest of the shard must not wait."""
    service = Service(*(DeadlineExceeded("no answer within 300 s") for _ in range(1_000)))
    with pytest.raises(DeadlineExceeded, match="300 s"):
        asyncio.run(Limit("reward", 4, patience_seconds=0.01)(service))
    assert service.calls == 3


def test_a_service_that_answers_no_call_at_all_is_named() -> None:
    async def scenario() -> list[object]:
        limit, service = Limit("reward", 32, 10), Service(*(DeadlineExceeded("late") for _ in range(1_000)))
        return list(await asyncio.gather(*(limit(service) for _ in range(16)), return_exceptions=True))

    outcomes = asyncio.run(scenario())
    away = [outcome for outcome in outcomes if isinstance(outcome, ServiceAway)]
    assert len(away) == 8, "the first eight failed alone, each of the others finds the service hanging"
    assert "takes calls and answers none" in str(away[0])


@pytest.mark.parametrize("asked", [0.5, 3600.0])
def test_a_refused_call_never_comes_back_sooner_than_asked(asked: float) -> None:
    pauses: list[float] = []

    async def sleep(seconds: float) -> None:
        pauses.append(seconds)

    service = Service(*(Overloaded("full", retry_after_seconds=asked) for _ in range(20)))
    assert asyncio.run(Limit("reward", 4, 10, sleep)(service)) == "answer"
    assert len(pauses) == 20
    assert asked <= min(pauses) < max(pauses)


class MortalService:
    """Dies of one prompt, and takes every call under way with it."""

    def __init__(self) -> None:
        self.died = asyncio.Event()
        self.deaths = 0

    async def __call__(self, prompt: str) -> str:
        if prompt == "hemlock":
            await asyncio.sleep(0.001)
            self.deaths += 1
            self.died.set()
            self.died = asyncio.Event()
            raise ConnectionBroken("it was there, and then it was gone")
        try:
            await asyncio.wait_for(self.died.wait(), 0.002)
        except TimeoutError:
            return f"answer to {prompt}"
        raise ConnectionBroken("it was there, and then it was gone")


def test_a_call_that_the_service_dies_of_is_given_up_and_its_company_is_answered() -> None:
    async def scenario() -> tuple[list[str | BaseException], int]:
        limit, service = Limit("critique", 8, 10, sleep=no_time), MortalService()
        prompts = ["hemlock", *(f"water {glass}" for glass in range(20))]
        calls = [limit(partial(service, prompt)) for prompt in prompts]
        return await asyncio.gather(*calls, return_exceptions=True), service.deaths

    async def no_time(_: float) -> None:
        await asyncio.sleep(0)

    (poisoned, *others), deaths = asyncio.run(scenario())
    assert isinstance(poisoned, ModelFailure)
    assert "died each of the 6 times" in poisoned.detail
    assert others == [f"answer to water {glass}" for glass in range(20)]
    assert deaths == 6


@pytest.mark.parametrize(
    "error",
    [
        Unauthorized("the internal token is another"),
        Forbidden("403 of a mesh or an ingress, which lets no call through"),
        NotFound("there is no such path"),
        StoreRefused("the object store refuses images/ab (403 Forbidden); check its credentials"),
    ],
)
def test_what_every_call_would_hear_is_the_services_fault_and_not_the_items(error: RetoucheError) -> None:
    """The shard must be given up, to be retried: an item that failed is committed and lost."""
    service = Service(error)
    with pytest.raises(ServiceAway, match=f"the editing service: {re.escape(error.detail)}"):
        asyncio.run(Limit("editing", 4, 10)(service))
    assert service.calls == 1


def test_a_full_store_is_waited_out() -> None:
    service = Service(StoreFull("no space is left"))
    assert asyncio.run(Limit("generation", 4, 10)(service)) == "answer"


def test_a_store_that_stays_full_is_said() -> None:
    service = Service(*(StoreFull("no space is left") for _ in range(1_000)))
    with pytest.raises(ServiceAway, match="no space is left"):
        asyncio.run(Limit("generation", 4, 0.05)(service))
