"""What a worker reads from the environment (RETOUCHE_*)."""

from pydantic import Field, SecretStr
from pydantic_settings import BaseSettings, SettingsConfigDict

from retouche.secret_files import secrets_folder


class Settings(BaseSettings):
    """What a worker talks to, and how much it does at once."""

    model_config = SettingsConfigDict(env_prefix="RETOUCHE_", extra="ignore", secrets_dir=secrets_folder())

    store: str = Field(default=".retouche/store", description="object store: a folder or a URL")
    redis_url: str = "redis://127.0.0.1:6379/0"
    generation_url: str = "http://127.0.0.1:8701"
    critique_url: str = "http://127.0.0.1:8702"
    instruction_url: str = "http://127.0.0.1:8703"
    editing_url: str = "http://127.0.0.1:8704"
    reward_url: str = "http://127.0.0.1:8705"
    internal_token: SecretStr | None = Field(default=None, description="what the services want of callers")
    call_timeout_seconds: float = 300.0
    patience_seconds: float = Field(
        default=600.0, description="how long a service may be away before its shard is given up"
    )
    most_in_flight: int = Field(default=64, description="calls to one service at a time, at most")

    host: str = "127.0.0.1"
    metrics_port: int | None = Field(default=None, description="where Prometheus finds a worker's meters")

    @property
    def service_urls(self) -> dict[str, str]:
        """The address of every stage's service."""
        return {
            "generation": self.generation_url,
            "critique": self.critique_url,
            "instruction": self.instruction_url,
            "editing": self.editing_url,
            "reward": self.reward_url,
        }
