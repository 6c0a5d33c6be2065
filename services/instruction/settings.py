"""What the instruction service reads from the environment."""

from services.vlm.settings import VisionLanguageSettings


class Settings(VisionLanguageSettings):
    instruction_port: int = 8703
