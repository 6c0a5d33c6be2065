"""What the services of a vision-language model read from the environment."""

from pydantic import Field, SecretStr

from serving.settings import ServiceSettings


class VisionLanguageSettings(ServiceSettings):
    vlm_url: str | None = Field(
        default=None, description="of an OpenAI-compatible server, where it is not at the profile's address"
    )
    vlm_api_key: SecretStr | None = Field(default=None, description="of that server, if it wants one")
    vlm_timeout_seconds: float = Field(default=60.0, gt=0, description="for one answer of such a server")
