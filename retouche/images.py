"""Images as bytes: refuse what is not a small, whole image before decoding it; encode each once."""

import base64
import binascii
import io
import struct
from typing import Literal

from PIL import Image, UnidentifiedImageError
from PIL.ExifTags import Base

from retouche.errors import BadImage, PayloadTooLarge

MAX_BYTES = 20_000_000
MAX_SIDE = 4096  # pixels
MAX_PROPORTION = 128  # of 2048 x 16, which may be generated; models enlarge the shorter side to theirs
DECODED_AT_ONCE = 2  # by a process: the largest take 350 MB each on their way, out of files of 75 kB
FORMATS = ("PNG", "JPEG", "WEBP")

Encoding = Literal["PNG", "JPEG", "WEBP"]


_TURNS = {  # by EXIF's orientation
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


def decode(data: bytes) -> Image.Image:
    """An RGB image from untrusted bytes.

    Raises:
        PayloadTooLarge: more than MAX_BYTES.
        BadImage: not a PNG, JPEG or WebP, larger than MAX_SIDE a side, more than MAX_PROPORTION times as long
            as wide, truncated or damaged.
    """
    if len(data) > MAX_BYTES:
        raise PayloadTooLarge(f"an image may have {MAX_BYTES:,} bytes, this one has {len(data):,}")
    try:
        image = Image.open(io.BytesIO(data), formats=FORMATS)
        if max(image.size) > MAX_SIDE:
            raise BadImage(
                f"an image may have {MAX_SIDE} pixels a side, not {image.width} x {image.height}; resize it"
            )
        if max(image.size) > MAX_PROPORTION * min(image.size):
            size = f"{image.width} x {image.height}"
            raise BadImage(f"an image may be {MAX_PROPORTION} times as long as wide, not {size}; crop it")
        image.load()
        return _flattened(image)
    except Image.DecompressionBombError as error:
        raise BadImage(f"the image is too large to decode: {error}") from None
    except UnidentifiedImageError:
        raise BadImage("not a PNG, JPEG or WebP image; send one in these formats") from None
    except (OSError, SyntaxError, ValueError, EOFError) as error:
        what = "not a PNG, JPEG or WebP image, or a damaged one"
        raise BadImage(f"{what} ({error}); send a whole image in one of these formats") from None


def encode(image: Image.Image) -> bytes:
    """Lossless WebP, method 0: eight times as fast as a default PNG."""
    buffer = io.BytesIO()
    image.save(buffer, "WEBP", lossless=True, method=0)
    return buffer.getvalue()


def from_data_uri(uri: str) -> bytes:
    """The bytes of a `data:image/...;base64,` URI; BadImage if the base64 is broken."""
    try:
        return base64.b64decode(uri.split(",", 1)[1], validate=True)
    except (binascii.Error, IndexError) as error:
        raise BadImage(f"the data URI's base64 cannot be read: {error}") from None


def to_data_uri(webp: bytes) -> str:
    """An encoded image of the store as a page shows it that needs nothing but itself."""
    return f"data:image/webp;base64,{base64.b64encode(webp).decode()}"


def media_type(data: bytes) -> str:
    """The media type of an encoded image that `decode` accepts."""
    with Image.open(io.BytesIO(data), formats=FORMATS) as image:
        return f"image/{(image.format or 'webp').lower()}"


def _flattened(image: Image.Image) -> Image.Image:
    """RGB, the way up that its EXIF says; what is transparent becomes white."""
    if (turn := _TURNS.get(_orientation(image) or 1)) is not None:
        image = image.transpose(turn)
    if image.mode.startswith("I"):  # 16 bits of grey, which would be cut off at 255
        image = image.convert("I").point(lambda grey: grey * (255 / 65_535)).convert("L")
    if image.mode in ("RGBA", "LA", "PA") or "transparency" in image.info:
        rgba = image.convert("RGBA")
        white = Image.new("RGBA", rgba.size, (255, 255, 255, 255))
        return Image.alpha_composite(white, rgba).convert("RGB")
    return image.convert("RGB")


def _orientation(image: Image.Image) -> int | None:
    """EXIF's, as photographs have it; EXIF that is damaged says nothing."""
    try:
        orientation: int | None = image.getexif().get(Base.Orientation)
    except (SyntaxError, ValueError, TypeError, struct.error):
        return None
    return orientation
