"""What the gateway reads from the environment (RETOUCHE_*)."""

from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict


class Settings(BaseSettings):
    """Where the gateway listens and what it talks to."""

    model_config = SettingsConfigDict(env_prefix="RETOUCHE_", extra="ignore")

    store: str = Field(default=".retouche/store", description="object store: a folder or a URL")
    profile: str = Field(default="shapes", description="names the base that runs train where they name none")
    redis_url: str = "redis://127.0.0.1:6379/0"
    host: str = "127.0.0.1"
    gateway_port: int = 8700
    generation_url: str = "http://127.0.0.1:8701"
    critique_url: str = "http://127.0.0.1:8702"
    instruction_url: str = "http://127.0.0.1:8703"
    editing_url: str = "http://127.0.0.1:8704"
    reward_url: str = "http://127.0.0.1:8705"
    service_timeout_seconds: float = 300.0
    recover_seconds: float = Field(default=30.0, gt=0, description="how often lost shards are looked for")
    api_keys: list[str] = Field(default=[], description="none: open, as fits a loopback address")

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
