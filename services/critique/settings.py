"""What the critique service reads from the environment."""

from services.vlm.settings import VisionLanguageSettings


class Settings(VisionLanguageSettings):
    critique_port: int = 8702
