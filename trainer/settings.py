"""What the trainer reads from the environment (RETOUCHE_*)."""

from pathlib import Path

from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict

from retouche.secret_files import secrets_folder


class Settings(BaseSettings):
    """What the trainer talks to, and where it works."""

    model_config = SettingsConfigDict(env_prefix="RETOUCHE_", extra="ignore", secrets_dir=secrets_folder())

    store: str = Field(default=".retouche/store", description="object store: a folder or a URL")
    redis_url: str = "redis://127.0.0.1:6379/0"
    runs_folder: Path = Field(default=Path(".retouche/runs"), description="checkpoints of runs under way")
    train_processes: int = Field(default=1, ge=1, description="of one run, on this machine; one a GPU")
    host: str = "127.0.0.1"
    metrics_port: int | None = Field(default=None, description="where Prometheus finds the trainer's meters")
