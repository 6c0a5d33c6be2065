"""The manifest of the shipped models: what each file is, how it was made, and how good it is."""

import json
import os
from hashlib import sha256
from pathlib import Path
from typing import Any

from shapes.train.loop import MODELS

MOST_BYTES = 24_000_000  # of safetensors, all models together


def record(folder: Path, command: str, seed: int, quality: dict[str, float], note: str = "") -> None:
    """Enter a model in the manifest beside its folder: the files' digests, its quality, departures."""
    manifest = read(folder.parent)
    rounded = {key: round(value, 4) for key, value in sorted(quality.items())}
    entry = {"command": command, "seed": seed, "quality": rounded, "files": digests(folder)}
    manifest[folder.name] = entry | ({"note": note} if note else {})
    written = _manifest(folder.parent).with_suffix(".written")
    written.write_text(json.dumps(dict(sorted(manifest.items())), indent=2) + "\n")
    os.replace(written, _manifest(folder.parent))


def read(models: Path = MODELS) -> dict[str, Any]:
    """The manifest of `models` as it stands; empty where there is none."""
    path = _manifest(models)
    manifest: dict[str, Any] = json.loads(path.read_text()) if path.exists() else {}
    return manifest


def _manifest(models: Path) -> Path:
    return models / "manifest.json"


def digests(folder: Path) -> dict[str, str]:
    """`sha256:<hex>` of every safetensors file below `folder`, by its path there."""
    return {
        str(path.relative_to(folder)): "sha256:" + sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*.safetensors"))
    }
