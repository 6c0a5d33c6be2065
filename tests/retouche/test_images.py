"""Untrusted bytes become RGB images or a BadImage that says why; images are encoded once, without loss."""

import base64
import io
import struct
import zlib

import pytest
from PIL import Image, ImageOps
from PIL.ExifTags import Base

from retouche.errors import BadImage, PayloadTooLarge
from retouche.images import MAX_BYTES, MAX_PROPORTION, MAX_SIDE, decode, encode, from_data_uri, media_type


def picture(mode: str = "RGB", size: tuple[int, int] = (8, 6)) -> Image.Image:
    return Image.radial_gradient("L").resize(size).convert(mode)


def encoded(image: Image.Image, format: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, format, **options)
    return buffer.getvalue()


def png_that_claims(width: int, height: int) -> bytes:
    """A PNG of a few bytes whose header promises a huge picture."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + chunk(b"IDAT", zlib.compress(b""))
        + chunk(b"IEND", b"")
    )


@pytest.mark.parametrize("mode", ["RGB", "L", "P", "1"])
@pytest.mark.parametrize("format", ["PNG", "WEBP"])
def test_encoding_loses_nothing(mode: str, format: str) -> None:
    image = picture(mode)
    if format == "WEBP":
        image = image.convert("RGB")
    arrived = decode(encoded(image, format, **({"lossless": True} if format == "WEBP" else {})))
    assert arrived.mode == "RGB"
    again = decode(encode(arrived))
    assert again.tobytes() == arrived.tobytes() == image.convert("RGB").tobytes()


def test_equal_images_are_equal_bytes() -> None:
    assert encode(picture()) == encode(picture())


def test_what_is_transparent_becomes_white() -> None:
    assert decode(encoded(Image.new("RGBA", (2, 2), (255, 0, 0, 0)), "PNG")).getpixel((0, 0)) == (
        255,
        255,
        255,
    )


@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_photograph_is_turned_as_its_exif_says(orientation: int) -> None:
    image, exif = picture(size=(8, 4)), Image.Exif()
    image.paste("red", (0, 0, 4, 2))
    exif[Base.Orientation] = orientation
    arrived = decode(encoded(image, "PNG", exif=exif))
    shown = ImageOps.exif_transpose(Image.open(io.BytesIO(encoded(image, "PNG", exif=exif))))
    assert arrived.tobytes() == shown.tobytes()
    assert arrived.size == ((8, 4) if orientation < 5 else (4, 8))


@pytest.mark.parametrize(
    "exif",
    [b"Exif\0\0no TIFF", b"Exif\0\0MM\0*\0\0\0\x08\0\x01\x01\x12", b"Exif\0\0MM\0*\xff\xff\xff\xff"],
)
def test_exif_that_is_damaged_says_nothing(exif: bytes) -> None:
    image = picture()
    assert decode(encoded(image, "PNG", exif=exif)).tobytes() == image.tobytes()


def test_sixteen_bits_of_grey_keep_their_tones() -> None:
    deep = Image.new("I;16", (2, 1))
    deep.putpixel((1, 0), 0x8080)
    assert decode(encoded(deep, "PNG")).tobytes() == bytes([0] * 3 + [128] * 3)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"not an image",
        b"\x89PNG\r\n\x1a\n",
        encoded(picture(size=(64, 64)), "PNG")[:-40],
        encoded(picture(size=(64, 64)), "JPEG")[:200],
        encoded(picture(size=(64, 64)), "WEBP")[:60],
        encoded(picture(), "GIF"),
        encoded(picture(), "BMP"),
        b"<svg xmlns='http://www.w3.org/2000/svg'/>",
    ],
)
def test_what_is_no_whole_image_of_an_allowed_format(data: bytes) -> None:
    with pytest.raises(BadImage, match=r"PNG, JPEG or WebP"):
        decode(data)


@pytest.mark.parametrize("size", [(MAX_SIDE + 1, 1), (60_000, 60_000), (2**31 - 1, 2**31 - 1)])
def test_a_bomb_is_refused_before_it_is_decoded(size: tuple[int, int]) -> None:
    with pytest.raises(BadImage):
        decode(png_that_claims(*size))


@pytest.mark.parametrize("turned", [False, True])
def test_a_picture_that_is_a_line_is_refused_by_its_proportion(turned: bool) -> None:
    """To a crop of 224 pixels a side, 4096 x 1 would first be enlarged to 917,504 x 224."""
    widest = (2 * MAX_PROPORTION, 2)
    assert decode(encoded(picture(size=widest), "PNG")).size == widest
    line = (16, 4096) if turned else (4096, 16)
    with pytest.raises(BadImage, match=f"{MAX_PROPORTION} times as long as wide, not {line[0]} x {line[1]}"):
        decode(encoded(picture(size=line), "PNG"))


def test_too_many_bytes() -> None:
    with pytest.raises(PayloadTooLarge, match="20,000,001"):
        decode(b"\0" * (MAX_BYTES + 1))


def test_a_data_uri() -> None:
    data = encoded(picture(), "PNG")
    assert from_data_uri("data:image/png;base64," + base64.b64encode(data).decode()) == data
    with pytest.raises(BadImage, match="base64"):
        from_data_uri("data:image/png;base64,AAA")


@pytest.mark.parametrize(
    ("format", "expected"), [("PNG", "image/png"), ("JPEG", "image/jpeg"), ("WEBP", "image/webp")]
)
def test_media_types(format: str, expected: str) -> None:
    assert media_type(encoded(picture(), format)) == expected
