"""What the services of a profile need: which models, under which licence, how much disk and GPU memory."""

import json
import struct
from dataclasses import dataclass
from functools import cache
from math import prod
from pathlib import Path
from typing import Literal

import yaml
from pydantic import Field, TypeAdapter

from retouche.contract.payload import Payload
from retouche.profile import FOLDER, Dtype, Profile, RewardChoice, VisionLanguageProfile, located

KNOWN = FOLDER.parent / "models.yaml"
_BYTES: dict[Dtype, int] = {"float32": 4, "float16": 2, "bfloat16": 2}
_WITH_BASE = "aesthetic"  # the one reward that runs its base; the others take files of it


class ModelFacts(Payload):
    """What deploy/models.yaml says of a model, whose comments say what each field means."""

    licence: str
    gated: bool
    parameters: int | Literal["unknown"]
    stored: Dtype
    source: str | None = Field(default=None, alias="from")
    make: str | None = None


@dataclass(frozen=True)
class Need:
    """A model that a service loads, in the precision it is run in; `weights`: not only its tokenizer."""

    model: str
    revision: str | None
    dtype: Dtype
    weights: bool = True

    @property
    def facts(self) -> ModelFacts | None:
        """What is known of it; None for a model that deploy/models.yaml does not name."""
        return known_models().get(self.model)

    @property
    def folder(self) -> Path | None:
        """Where it is on this machine, if it is a folder."""
        path = Path(located(self.model))
        return path if path.is_dir() else None

    @property
    def parameters(self) -> int | None:
        """As its files say, or deploy/models.yaml does; None where neither knows."""
        if not self.weights:
            return 0
        if self.folder is not None and (counted := parameters_in(self.folder)):
            return counted
        known = self.facts.parameters if self.facts else "unknown"
        return None if known == "unknown" else known

    @property
    def memory_bytes(self) -> int | None:
        """What its weights take once loaded; what runs through them comes on top."""
        return None if self.parameters is None else self.parameters * _BYTES[self.dtype]

    @property
    def disk_bytes(self) -> int | None:
        """What its weights take on disk as they are published."""
        if self.parameters is None or self.facts is None:
            return None
        return self.parameters * _BYTES[self.facts.stored]


def needs(profile: Profile) -> dict[str, list[Need]]:
    """What each process must load: a service by its stage's name, a vLLM server by its address."""
    generation, editing = profile.generation, profile.editing
    found = {"generation": [Need(generation.model, generation.revision, generation.dtype)]}
    if generation.vae is not None:
        found["generation"].append(Need(generation.vae, generation.vae_revision, generation.dtype))
    for stage, reader in (("critique", profile.critique), ("instruction", profile.instruction)):
        found[_where(stage, reader)] = [Need(reader.model, reader.revision, reader.dtype)]
    found["editing"] = [Need(editing.model, editing.revision, editing.dtype)]
    if editing.controlnet is not None:
        found["editing"].append(Need(editing.controlnet, editing.controlnet_revision, editing.dtype))
    found["reward"] = [need for choice in profile.rewards.values() for need in _scored_by(choice)]
    return found


def servers(profile: Profile) -> dict[str, str]:
    """Which model must answer at which OpenAI-compatible address."""
    readers = (profile.critique, profile.instruction)
    return {reader.address: reader.model for reader in readers if reader.backend == "openai"}


def parameters_in(folder: Path) -> int:
    """How many numbers the safetensors of a folder hold, read from their headers."""
    return sum(_numbers(file) for file in folder.rglob("*.safetensors"))


def _where(stage: str, reader: VisionLanguageProfile) -> str:
    return reader.address if reader.backend == "openai" else stage


def _scored_by(choice: RewardChoice) -> list[Need]:
    model = Need(choice.model, choice.revision, choice.dtype)
    if choice.base is None:
        return [model]
    weights = choice.kind == _WITH_BASE
    return [model, Need(choice.base, choice.base_revision, choice.dtype, weights)]


def _numbers(file: Path) -> int:
    with file.open("rb") as opened:
        (length,) = struct.unpack("<Q", opened.read(8))
        header = json.loads(opened.read(length))
    tensors = [value for name, value in header.items() if name != "__metadata__"]
    return sum(prod(tensor["shape"]) for tensor in tensors)


@cache
def known_models() -> dict[str, ModelFacts]:
    """What deploy/models.yaml says, by the names that profiles have; empty outside a checkout."""
    content = yaml.safe_load(KNOWN.read_text()) if KNOWN.is_file() else {}
    return TypeAdapter(dict[str, ModelFacts]).validate_python(content)
