"""Which model answers: a name, and a revision that changes when its weights or configuration do."""

import hashlib
from functools import cache
from pathlib import Path

from retouche.contract.payload import ModelIdentity, RunId

_PARTS = ("*.safetensors", "*.json", "*.jinja", "*.txt", "*.model")  # the last three: how text is read


def identify(model: str, revision: str | None = None) -> ModelIdentity:
    """The identity of a local model folder, by its content, or of a Hub id at a revision."""
    folder = Path(model)
    if folder.is_dir():
        return ModelIdentity(id=folder.name, revision=_content(folder.resolve()))
    return ModelIdentity(id=model, revision=revision or "main")


def together(model: ModelIdentity, companion: ModelIdentity) -> ModelIdentity:
    """The identity of a model that answers with another's help."""
    return ModelIdentity(id=f"{model.id}+{companion.id}", revision=f"{model.revision}+{companion.revision}")


def worn(model: ModelIdentity, run_id: RunId | None) -> ModelIdentity:
    """The identity of a model with the adapter of a run, if any."""
    return model if run_id is None else model.model_copy(update={"id": f"{model.id}+{run_id}"})


@cache
def _content(folder: Path) -> str:
    total = hashlib.sha256()
    for path in sorted(path for part in _PARTS for path in folder.rglob(part)):
        total.update(str(path.relative_to(folder)).encode())
        total.update(hashlib.sha256(path.read_bytes()).digest())
    return total.hexdigest()[:12]
