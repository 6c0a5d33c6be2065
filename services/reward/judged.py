"""What a reward model is asked about: as it comes from the store, and as the model takes it."""

from dataclasses import dataclass

from PIL import Image


@dataclass(frozen=True)
class Encoded:
    """One image, as it is stored, to be scored under one prompt."""

    prompt: str
    image: bytes


@dataclass(frozen=True)
class Judged:
    """One image to be scored under one prompt."""

    prompt: str
    image: Image.Image
