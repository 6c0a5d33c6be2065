"""API keys in the object store, their secrets as digests."""

import hmac
import re
import secrets
import time
from datetime import UTC, datetime
from hashlib import sha256

from pydantic import ValidationError

from retouche.contract.keys import KeyId, KeyInfo, KeyRequest, NewKey
from retouche.errors import NotFound
from retouche.store import ObjectStore

CACHE_SECONDS = 10.0  # a key revoked at another gateway is known here for that long
_MOST_CACHED = 10_000
_KEY = re.compile(r"rt_([0-9a-f]{16})_([A-Za-z0-9_-]{43})")


class KeyRecord(KeyInfo):
    """`keys/<id>.json`. A secret is 256 random bits: no table holds it, so its plain digest needs no salt."""

    secret_digest: str


class KeyStore:
    """Makes, knows and revokes keys."""

    def __init__(self, store: ObjectStore) -> None:
        self._store = store
        self._cached: dict[str, tuple[float, KeyRecord]] = {}

    async def create(self, wanted: KeyRequest) -> NewKey:
        """A new key; its secret is told here and nowhere else."""
        identifier, secret = secrets.token_hex(8), secrets.token_urlsafe(32)
        info = KeyInfo(
            id=identifier, tenant=wanted.tenant, scopes=wanted.scopes, created_at=datetime.now(UTC)
        )
        record = KeyRecord(**info.model_dump(), secret_digest=_digest(secret))
        await self._store.create(_path(identifier), record.model_dump_json().encode())
        return NewKey(**info.model_dump(), key=f"rt_{identifier}_{secret}")

    async def known(self, key: str) -> KeyInfo | None:
        """Whose key it is; None if it is not a key, or was revoked."""
        if (parts := _KEY.fullmatch(key)) is None:
            return None
        record = await self._record(parts[1])
        if record is None or not hmac.compare_digest(_digest(parts[2]), record.secret_digest):
            return None
        return record

    async def all(self) -> list[KeyInfo]:
        """Every key, by tenant and age."""
        names = [path.rsplit("/", 1)[-1].removesuffix(".json") async for path in self._store.paths("keys")]
        records = [record for name in names if (record := await self._read(name)) is not None]
        ordered = sorted(records, key=lambda record: (record.tenant, record.created_at))
        return [KeyInfo(**record.model_dump(exclude={"secret_digest"})) for record in ordered]

    async def revoke(self, identifier: KeyId) -> None:
        """Forget a key; NotFound if there is none."""
        if not await self._store.exists(_path(identifier)):
            raise NotFound(f"there is no key {identifier}; GET /v1/keys lists them")
        await self._store.delete(_path(identifier))
        self._cached.pop(identifier, None)

    async def _record(self, identifier: str) -> KeyRecord | None:
        at, record = self._cached.get(identifier, (0.0, None))
        if record is not None and time.monotonic() - at < CACHE_SECONDS:
            return record
        record = await self._read(identifier)
        if record is None:
            self._cached.pop(identifier, None)
        else:
            if len(self._cached) >= _MOST_CACHED:
                self._cached.clear()
            self._cached[identifier] = time.monotonic(), record
        return record

    async def _read(self, identifier: str) -> KeyRecord | None:
        try:
            return KeyRecord.model_validate_json(await self._store.get(_path(identifier)))
        except (NotFound, ValidationError):
            return None


def _path(identifier: str) -> str:
    return f"keys/{identifier}.json"


def _digest(secret: str) -> str:
    return sha256(secret.encode()).hexdigest()
