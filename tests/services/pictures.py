"""Pictures of the shapes world as requests carry them."""

import base64

from PIL import Image, ImageDraw

from retouche.images import encode
from shapes.render import Pixels


def data_uri(picture: Pixels | Image.Image) -> str:
    """A picture as a data URI."""
    image = picture if isinstance(picture, Image.Image) else Image.fromarray(picture)
    return "data:image/webp;base64," + base64.b64encode(encode(image)).decode()


def painted_over(picture: Pixels, text: str) -> Image.Image:
    """The picture with `text` painted over it."""
    image = Image.fromarray(picture)
    ImageDraw.Draw(image).multiline_text((1, 1), text, fill="black")
    return image
