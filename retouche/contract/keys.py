"""API keys: whom they stand for, and what they may do."""

from datetime import datetime
from typing import Annotated, Literal, get_args

from pydantic import Field, StringConstraints

from retouche.contract.payload import Frozen, Payload, TenantName

# curate: jobs and prompt sets. train: runs. read: everything of the tenant. services: the five stages, and
# uploading images for them. admin: the keys of all tenants, and recovery.
Scope = Literal["curate", "train", "read", "services", "admin"]
SCOPES: tuple[Scope, ...] = get_args(Scope)

KeyId = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{16}$")]


class KeyRequest(Payload):
    """A key to be made."""

    tenant: TenantName
    scopes: Annotated[frozenset[Scope], Field(min_length=1)]


class KeyInfo(Frozen):
    """A key, without what opens anything."""

    id: KeyId
    tenant: TenantName
    scopes: frozenset[Scope]
    created_at: datetime


class NewKey(KeyInfo):
    """A key as it is told once, to whoever made it: `rt_<id>_<secret>`."""

    key: str


class KeyPage(Payload):
    keys: list[KeyInfo]
