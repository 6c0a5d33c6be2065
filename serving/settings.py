"""What every service reads from the environment (RETOUCHE_*)."""

from pydantic import Field, SecretStr
from pydantic_settings import BaseSettings, SettingsConfigDict

from retouche.secret_files import secrets_folder


class ServiceSettings(BaseSettings):
    """Where a service listens, where images are, which profile names its models."""

    model_config = SettingsConfigDict(env_prefix="RETOUCHE_", extra="ignore", secrets_dir=secrets_folder())

    store: str = Field(default=".retouche/store", description="object store: a folder or a URL")
    profile: str = Field(default="shapes", description="name in deploy/profiles, or path of a YAML file")
    host: str = "127.0.0.1"
    internal_token: SecretStr | None = Field(
        default=None,
        min_length=32,
        description="wanted of every caller; none: open, as fits a loopback address",
    )
    max_waiting: int = Field(default=256, description="items that may wait for the model before 429")
