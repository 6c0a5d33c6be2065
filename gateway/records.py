"""What was asked for, as it was accepted: the records of jobs and of runs, which never change."""

import asyncio
import logging
from collections.abc import Callable, Iterable
from typing import Generic, Literal, TypeVar

from pydantic import ValidationError

from retouche.contract.jobs import JobRecord
from retouche.contract.runs import RunRecord
from retouche.errors import NotFound, RetoucheError
from retouche.store import ObjectStore
from retouche.tenancy import owned

ENDED = ("finished", "failed", "cancelled")

_READS_AT_ONCE = 32

RecordT = TypeVar("RecordT", JobRecord, RunRecord)

_log = logging.getLogger("retouche.gateway")


class RecordReader(Generic[RecordT]):
    """Reads the records of one kind; those read are kept in memory."""

    def __init__(
        self,
        store: ObjectStore,
        kind: Literal["jobs", "runs"],
        parse: Callable[[bytes], RecordT],
        not_found: type[NotFound],
    ) -> None:
        """`parse` raises ValidationError for what it cannot read."""
        self._store = store
        self._kind: Literal["jobs", "runs"] = kind
        self._parse: Callable[[bytes], RecordT] = parse
        self._not_found = not_found
        self._records: dict[str, RecordT] = {}

    async def record(self, identifier: str) -> RecordT:
        """The specification as accepted.

        Raises:
            JobNotFound, RunNotFound: there is none.
            RetoucheError: it cannot be read.
        """
        try:
            return await self._known(identifier)
        except NotFound:
            raise self._absent(identifier) from None
        except ValidationError as error:
            raise RetoucheError(self._unreadable(identifier, error)) from None

    async def record_of(self, tenant: str, identifier: str) -> RecordT:
        """The record of what is a tenant's own; JobNotFound or RunNotFound for any other."""
        record = await self.record(identifier)
        if record.tenant != tenant:
            raise self._absent(identifier)
        return record

    async def all(self) -> list[str]:
        """The identifiers of all tenants' jobs or runs, the newest first."""
        return await self._newest_first(await self._store.folders(self._kind))

    async def of(self, tenant: str) -> list[str]:
        """The identifiers of a tenant's jobs or runs, the newest first."""
        return await self._newest_first(await owned(self._store, tenant, self._kind))

    async def _newest_first(self, identifiers: Iterable[str]) -> list[str]:
        """Without those that have no record, as their store was full, and those that cannot be read."""
        named = list(identifiers)
        records: dict[str, RecordT] = {}
        for begin in range(0, len(named), _READS_AT_ONCE):
            some = named[begin : begin + _READS_AT_ONCE]
            for identifier, record in zip(some, await asyncio.gather(*map(self._listed, some)), strict=True):
                if record is not None:
                    records[identifier] = record
        return sorted(records, key=lambda identifier: records[identifier].created_at, reverse=True)

    async def _listed(self, identifier: str) -> RecordT | None:
        try:
            return await self._known(identifier)
        except NotFound:
            return None
        except ValidationError as error:
            _log.warning("left out: %s", self._unreadable(identifier, error))
            return None

    async def _known(self, identifier: str) -> RecordT:
        if identifier not in self._records:
            stored = await self._store.get(self._path(identifier))
            self._records[identifier] = self._parse(stored)
        return self._records[identifier]

    def _path(self, identifier: str) -> str:
        return f"{self._kind}/{identifier}/spec.json"

    def _unreadable(self, identifier: str, error: ValidationError) -> str:
        problem = error.errors()[0]
        where = ".".join(map(str, problem["loc"]))
        return f"{self._path(identifier)} cannot be read, {where}: {problem['msg']}; is it another version's?"

    def _absent(self, identifier: str) -> NotFound:
        return self._not_found(
            f"there is no {self._kind.removesuffix('s')} {identifier}; GET /v1/{self._kind} lists them"
        )


def page_after(identifiers: list[str], cursor: str | None, limit: int) -> tuple[list[str], str | None]:
    """The `limit` identifiers behind `cursor`, or the first; and the next cursor, where there are more."""
    begin = identifiers.index(cursor) + 1 if cursor in identifiers else 0
    page = identifiers[begin : begin + limit]
    return page, page[-1] if begin + limit < len(identifiers) else None
