"""What the editing service reads from the environment."""

from serving.settings import ServiceSettings


class Settings(ServiceSettings):
    editing_port: int = 8704
