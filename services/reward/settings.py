"""What the reward service reads from the environment."""

from serving.settings import ServiceSettings


class Settings(ServiceSettings):
    reward_port: int = 8705
