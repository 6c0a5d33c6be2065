"""What the generation service reads from the environment."""

from serving.settings import ServiceSettings


class Settings(ServiceSettings):
    generation_port: int = 8701
