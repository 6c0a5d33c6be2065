"""An object store that takes nothing more."""

from retouche.errors import StoreFull
from retouche.store import ObjectStore


class FullStore(ObjectStore):
    """A store in which no space is left."""

    async def put(self, path: str, data: bytes) -> None:
        raise StoreFull(f"no space is left in the object store for the {len(data)} bytes of {path}")

    async def create(self, path: str, data: bytes) -> bool:
        await self.put(path, data)
        return True
