"""Settings that a container gets as files, each named as its variable: no secret is in its environment."""

from pathlib import Path

_FOLDER = Path("/run/secrets/retouche")


def secrets_folder() -> Path | None:
    """For `secrets_dir` of pydantic-settings, which warns where there is no such folder."""
    return _FOLDER if _FOLDER.is_dir() else None
