"""One name with several addresses: calls go to all of them, and around the ones that cannot take any."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack, asynccontextmanager

import httpx2
import pytest
from fastapi import FastAPI, Request, Response

from retouche.client.replicas import Replicas
from tests.live import live

ADDRESSES = ["127.0.0.11", "127.0.0.12", "127.0.0.13"]


class Service:
    """Three replicas at one port. `busy` ones answer 429; each counts the calls it has got."""

    def __init__(self) -> None:
        self.calls: Counter[str] = Counter()
        self.hosts: set[str] = set()
        self.busy: set[str] = set()
        self.port = 0

    def replica(self, address: str) -> FastAPI:
        app = FastAPI()

        @app.post("/v1/edit")
        async def edit(request: Request) -> Response:
            self.calls[address] += 1
            self.hosts.add(request.headers["host"])
            if address in self.busy:
                return Response("full", 429, headers={"retry-after": "5"})
            await asyncio.sleep(0.02)
            return Response(await request.body())

        return app


@pytest.fixture
def service() -> Iterator[Service]:
    service = Service()
    with ExitStack() as stack:
        for address in ADDRESSES:
            url = stack.enter_context(live(service.replica(address), address, service.port))
            service.port = int(url.rsplit(":", 1)[1])
        yield service


@asynccontextmanager
async def client(service: Service, *resolved: str) -> AsyncIterator[httpx2.AsyncClient]:
    """A client for whom `editing` stands for `resolved`; it keeps connections alive."""

    async def resolve(_host: str, _port: int) -> list[str]:
        return list(resolved)

    transport = Replicas(httpx2.AsyncHTTPTransport(), resolve)
    async with httpx2.AsyncClient(
        base_url=f"http://editing:{service.port}", transport=transport, trust_env=False
    ) as made:
        yield made


async def call(service: Service, resolved: list[str], calls: int) -> list[httpx2.Response]:
    async with client(service, *resolved) as made:
        return await asyncio.gather(*(made.post("/v1/edit", content=b"x") for _ in range(calls)))


def test_calls_are_shared_by_all_replicas(service: Service) -> None:
    answers = asyncio.run(call(service, ADDRESSES, 30))
    assert [answer.content for answer in answers] == [b"x"] * 30
    assert service.calls == dict.fromkeys(ADDRESSES, 10)
    assert service.hosts == {f"editing:{service.port}"}


def test_a_busy_replica_is_left_alone_and_its_call_goes_to_another(service: Service) -> None:
    service.busy = {ADDRESSES[0]}

    async def one_after_another() -> list[int]:
        async with client(service, *ADDRESSES) as made:
            return [(await made.post("/v1/edit", content=b"x")).status_code for _ in range(20)]

    assert asyncio.run(one_after_another()) == [200] * 20
    assert service.calls[ADDRESSES[0]] <= 1


def test_the_refusal_is_told_when_all_are_busy(service: Service) -> None:
    service.busy = set(ADDRESSES)
    (answer,) = asyncio.run(call(service, ADDRESSES, 1))
    assert (answer.status_code, answer.headers["retry-after"], answer.text) == (429, "5", "full")
    assert service.calls == dict.fromkeys(ADDRESSES, 1)


def test_an_address_where_nothing_listens_is_skipped(service: Service) -> None:
    answers = asyncio.run(call(service, ["127.0.0.14", *ADDRESSES], 12))
    assert {answer.status_code for answer in answers} == {200}


def test_nothing_listens_anywhere(service: Service) -> None:
    with pytest.raises(httpx2.ConnectError):
        asyncio.run(call(service, ["127.0.0.14", "127.0.0.15"], 1))


def test_a_name_that_stands_for_nothing() -> None:
    async def ask() -> None:
        async with httpx2.AsyncClient(transport=Replicas(httpx2.AsyncHTTPTransport())) as made:
            await made.get("http://nowhere.invalid/")

    with pytest.raises(httpx2.ConnectError, match=r"nowhere\.invalid"):
        asyncio.run(ask())
