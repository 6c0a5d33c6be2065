"""What belongs to whom: an empty object below tenants/<tenant>/ for everything that a tenant may see.

Images and prompt sets are kept once, by their content, however many tenants have them.
"""

import asyncio
from collections.abc import Iterable
from typing import Literal

from retouche.contract.payload import ImageRef
from retouche.store import ObjectStore

Kind = Literal["jobs", "runs", "images", "prompts", "active"]

_WRITES_AT_ONCE = 32


def owned_path(tenant: str, kind: Kind, name: str) -> str:
    """`name`: the identifier of a job or run, the digest of an image or prompt set."""
    plain = name.removeprefix("sha256:")
    return (
        f"tenants/{tenant}/{kind}/{plain[:2]}/{plain}"
        if kind == "images"
        else f"tenants/{tenant}/{kind}/{plain}"
    )


async def own(store: ObjectStore, tenant: str, kind: Kind, name: str) -> None:
    """Let the tenant see it; writing it again changes nothing."""
    await store.create(owned_path(tenant, kind, name), b"")


async def owns(store: ObjectStore, tenant: str, kind: Kind, name: str) -> bool:
    return await store.exists(owned_path(tenant, kind, name))


async def owned(store: ObjectStore, tenant: str, kind: Kind) -> list[str]:
    """The names of everything of the tenant, of that kind, in no particular order; not for images."""
    return [path.rsplit("/", 1)[-1] async for path in store.paths(f"tenants/{tenant}/{kind}")]


async def own_images(store: ObjectStore, tenant: str, images: Iterable[ImageRef]) -> None:
    """Let the tenant see all of these."""
    room = asyncio.Semaphore(_WRITES_AT_ONCE)

    async def write(image: ImageRef) -> None:
        async with room:
            await own(store, tenant, "images", image)

    await asyncio.gather(*map(write, set(images)))
