"""What the gateway reads from the environment (RETOUCHE_*)."""

from typing import Self

from pydantic import Field, SecretStr, model_validator

from retouche.settings import CallerSettings

LOOPBACK = ("127.0.0.1", "::1", "localhost")


class Settings(CallerSettings):
    """Where the gateway listens and what it talks to."""

    store: str = Field(default=".retouche/store", description="object store: a folder or a URL")
    profile: str = Field(default="shapes", description="names the base that runs train where they name none")
    redis_url: str = "redis://127.0.0.1:6379/0"
    host: str = "127.0.0.1"
    gateway_port: int = 8700
    service_timeout_seconds: float = 300.0
    upkeep_seconds: float = Field(
        default=2.0, gt=0, description="how often dead workers and an emptied Redis are looked for"
    )
    recover_seconds: float = Field(default=30.0, gt=0, description="how often lost shards are looked for")
    require_keys: bool = Field(
        default=False,
        description="false: open, every caller is the tenant `local`; on a loopback address only",
    )
    admin_key: SecretStr | None = Field(
        default=None, min_length=32, description="a key that may make keys: the first one, from outside"
    )

    tenant_requests_per_second: float = Field(default=100.0, gt=0, description="where keys are wanted")
    tenant_request_burst: int = Field(default=200, ge=1, description="calls that may come at once")
    tenant_active_jobs: int = Field(
        default=16, ge=1, description="jobs and runs under way at a time, where keys are wanted"
    )
    tenant_followers: int = Field(
        default=100, ge=1, description="event streams open at one gateway, where keys are wanted"
    )

    @model_validator(mode="after")
    def _open_on_loopback_only(self) -> Self:
        if not self.require_keys and self.host not in LOOPBACK:
            raise ValueError(
                f"RETOUCHE_HOST={self.host} is open to others: set RETOUCHE_REQUIRE_KEYS=true and "
                "RETOUCHE_ADMIN_KEY, or listen on 127.0.0.1"
            )
        return self
