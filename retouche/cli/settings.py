"""What the command line reads from the environment."""

from pydantic import SecretStr
from pydantic_settings import BaseSettings, SettingsConfigDict

from retouche.client.gateway import DEFAULT_URL


class Settings(BaseSettings):
    """Where the gateway is, the key it wants; store and vLLM, if not where `up` and the profile have them.

    vLLM's key is for `doctor` alone.
    """

    model_config = SettingsConfigDict(env_prefix="RETOUCHE_", extra="ignore")

    url: str = DEFAULT_URL
    api_key: str | None = None
    store: str | None = None
    vlm_url: str | None = None
    vlm_api_key: SecretStr | None = None
