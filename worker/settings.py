"""What a worker reads from the environment (RETOUCHE_*)."""

from pydantic import Field

from retouche.settings import CallerSettings


class Settings(CallerSettings):
    """What a worker talks to, and how much it does at once."""

    store: str = Field(default=".retouche/store", description="object store: a folder or a URL")
    redis_url: str = "redis://127.0.0.1:6379/0"
    call_timeout_seconds: float = 300.0
    patience_seconds: float = Field(
        default=600.0, description="how long a service may be away before its shard is given up"
    )
    most_in_flight: int = Field(default=64, description="calls to one service at a time, at most")

    host: str = "127.0.0.1"
    metrics_port: int | None = Field(default=None, description="where Prometheus finds a worker's meters")
