"""What the payloads share: strictness, image references, model identities."""

from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

MAX_PROMPT_CHARACTERS = 2_000
MAX_SEED = 2**63 - 1
MAX_DATA_URI_CHARACTERS = 16_000_000  # about 12 MB of image

LOCAL = "local"  # the tenant of a gateway that wants no keys

Digest = Annotated[str, StringConstraints(pattern=r"^sha256:[0-9a-f]{64}$")]
ImageRef = Digest
RunId = Annotated[str, StringConstraints(pattern=r"^run-[0-9a-f]{16}$")]
TenantName = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9-]{0,39}$")]
ProfileName = Annotated[
    Annotated[str, StringConstraints(min_length=1, max_length=100)] | None,
    Field(description="refused where another profile is deployed; none: whichever is"),
]
ImageInput = Annotated[
    str,
    StringConstraints(
        pattern=r"^(sha256:[0-9a-f]{64}|data:image/(png|jpeg|webp);base64,[A-Za-z0-9+/=]+)$",
        max_length=MAX_DATA_URI_CHARACTERS,
    ),
]
Prompt = Annotated[
    str, StringConstraints(strip_whitespace=True, min_length=1, max_length=MAX_PROMPT_CHARACTERS)
]


class Payload(BaseModel):
    """A payload refuses fields it does not know, and numbers that JSON does not have."""

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)


class Frozen(Payload):
    """A payload that does not change once made."""

    model_config = ConfigDict(frozen=True)


class ModelIdentity(Frozen):
    """Which model answered: its Hub id or folder name, and a revision that changes with its weights."""

    id: str
    revision: str

    def __str__(self) -> str:
        return f"{self.id}@{self.revision}"


JsonObject = dict[str, Any]
