"""What every process reads from the environment (RETOUCHE_*), whatever else it is."""

from typing import Literal

from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict


class Settings(BaseSettings):
    """How a process tells what it does."""

    model_config = SettingsConfigDict(env_prefix="RETOUCHE_", extra="ignore")

    log_format: Literal["text", "json"] = "text"
    otlp_endpoint: str | None = Field(
        default=None,
        description="where spans go, such as http://collector:4318/v1/traces; none: nowhere",
    )
