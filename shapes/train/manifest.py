"""The manifest of the shipped models: what each file is, how it was made, and how good it is."""

import json
from hashlib import sha256
from pathlib import Path
from typing import Any

from shapes.train.loop import MODELS

MANIFEST = MODELS / "manifest.json"
MOST_BYTES = 24_000_000  # of safetensors, all models together


def record(name: str, command: str, seed: int, quality: dict[str, float], note: str = "") -> None:
    """Enter a model folder: its files' digests, its quality, and how it departs from the recipe."""
    manifest = read()
    rounded = {key: round(value, 4) for key, value in sorted(quality.items())}
    entry = {"command": command, "seed": seed, "quality": rounded, "files": digests(MODELS / name)}
    manifest[name] = entry | ({"note": note} if note else {})
    MANIFEST.write_text(json.dumps(dict(sorted(manifest.items())), indent=2) + "\n")


def read() -> dict[str, Any]:
    """The manifest as it stands; empty where there is none."""
    manifest: dict[str, Any] = json.loads(MANIFEST.read_text()) if MANIFEST.exists() else {}
    return manifest


def digests(folder: Path) -> dict[str, str]:
    """`sha256:<hex>` of every safetensors file below `folder`, by its path there."""
    return {
        str(path.relative_to(folder)): "sha256:" + sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*.safetensors"))
    }
