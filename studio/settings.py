"""What the studio reads from the environment (RETOUCHE_*)."""

from pydantic_settings import BaseSettings, SettingsConfigDict

from retouche.client.gateway import DEFAULT_URL


class Settings(BaseSettings):
    """Where the studio listens, and whose studio it is. Keys are the visitors' own: it has none."""

    model_config = SettingsConfigDict(env_prefix="RETOUCHE_", extra="ignore")

    url: str = DEFAULT_URL
    host: str = "127.0.0.1"
    studio_port: int = 8710
