"""What several kinds of processes read from the environment (RETOUCHE_*)."""

from typing import Literal

from pydantic import Field, SecretStr
from pydantic_settings import BaseSettings, SettingsConfigDict

from retouche.secret_files import secrets_folder


class Settings(BaseSettings):
    """How a process, whichever it is, tells what it does."""

    model_config = SettingsConfigDict(env_prefix="RETOUCHE_", extra="ignore")

    log_format: Literal["text", "json"] = "text"
    otlp_endpoint: str | None = Field(
        default=None,
        description="where spans go, such as http://collector:4318/v1/traces; none: nowhere",
    )


class CallerSettings(BaseSettings):
    """How a process calls the services."""

    model_config = SettingsConfigDict(env_prefix="RETOUCHE_", extra="ignore", secrets_dir=secrets_folder())

    generation_url: str = "http://127.0.0.1:8701"
    critique_url: str = "http://127.0.0.1:8702"
    instruction_url: str = "http://127.0.0.1:8703"
    editing_url: str = "http://127.0.0.1:8704"
    reward_url: str = "http://127.0.0.1:8705"
    internal_token: SecretStr | None = Field(default=None, description="what the services want of callers")

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
