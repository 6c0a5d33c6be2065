"""Images come in as PNG, JPEG or WebP, are kept as lossless WebP under their digest, and go out for ever."""

import io
import re
import socket
import struct
import threading
import time
import zlib
from concurrent.futures import ThreadPoolExecutor

import httpx2
import pytest
from PIL import Image

from retouche.images import DECODED_AT_ONCE, decode
from tests.until import until

RED = Image.new("RGB", (32, 16), (255, 0, 0))


def encoded(image: Image.Image, kind: str) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, lossless=True)
    return buffer.getvalue()


def bomb() -> bytes:
    """A PNG header that promises 60,000 x 60,000 pixels."""
    header = struct.pack(">IIBBBBB", 60_000, 60_000, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + _chunk(b"IHDR", header) + _chunk(b"IDAT", zlib.compress(b"\0" * 100_000))


def _chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def test_an_uploaded_image_comes_back_pixel_by_pixel(gateway: httpx2.Client) -> None:
    uploaded = gateway.post("/v1/images", content=encoded(RED, "PNG"))
    assert uploaded.status_code == 201
    info = uploaded.json()
    assert (info["width"], info["height"], info["media_type"]) == (32, 16, "image/webp")
    fetched = gateway.get(f"/v1/images/{info['image']}")
    assert fetched.headers["content-type"] == "image/webp"
    assert len(fetched.content) == info["bytes"]
    assert Image.open(io.BytesIO(fetched.content)).convert("RGB").tobytes() == RED.tobytes()


def test_the_same_pixels_are_the_same_image(gateway: httpx2.Client) -> None:
    references = {
        gateway.post("/v1/images", content=encoded(RED, kind)).json()["image"] for kind in ("PNG", "WEBP")
    }
    assert len(references) == 1


@pytest.mark.parametrize("kind", ["image/png", "multipart/form-data; boundary=x"])
def test_a_client_that_leaves_while_it_uploads_is_no_fault_of_the_gateway(
    gateway: httpx2.Client, kind: str
) -> None:
    host, port = gateway.base_url.host, gateway.base_url.port or 80
    head = f"POST /v1/images HTTP/1.1\r\nhost: {host}\r\ncontent-type: {kind}\r\ncontent-length: 1000\r\n\r\n"
    with socket.create_connection((host, port)) as leaving:
        leaving.sendall(head.encode() + b"the beginning")
    line = 'retouche_request_seconds_count{route="/v1/images",status="499"}'
    until(lambda: line in gateway.get("/metrics").text)


def test_few_images_are_decoded_at_once(gateway: httpx2.Client, monkeypatch: pytest.MonkeyPatch) -> None:
    """A picture of 75 kB may take hundreds of megabytes on its way: many at once would be a bomb."""
    inside, open_again = list[bytes](), threading.Event()

    def held_up(data: bytes) -> Image.Image:
        inside.append(data)
        assert open_again.wait(60)
        return decode(data)

    monkeypatch.setattr("gateway.images.decode", held_up)
    with ThreadPoolExecutor(6) as callers:
        answers = [callers.submit(gateway.post, "/v1/images", content=encoded(RED, "PNG")) for _ in range(6)]
        until(lambda: len(inside) == DECODED_AT_ONCE)
        time.sleep(0.5)  # the others would have come in by now
        at_once = len(inside)
        open_again.set()
    assert at_once == DECODED_AT_ONCE
    assert [answer.result().status_code for answer in answers] == [201] * 6
    assert len(inside) == 6


def test_a_form_uploads_the_same_image(gateway: httpx2.Client) -> None:
    body = gateway.post("/v1/images", content=encoded(RED, "PNG")).json()
    form = gateway.post("/v1/images", files={"image": ("red.png", encoded(RED, "PNG"), "image/png")})
    assert (form.status_code, form.json()) == (201, body)


@pytest.mark.parametrize(
    ("field", "content", "says"),
    [
        ("picture", encoded(RED, "PNG"), "no file in its field `image`"),
        ("image", b"not an image", "PNG, JPEG or WebP"),
    ],
)
def test_a_form_without_an_image_says_so(
    gateway: httpx2.Client, field: str, content: bytes, says: str
) -> None:
    answer = gateway.post("/v1/images", files={field: ("red.png", content, "image/png")})
    assert answer.status_code == 400
    assert says in answer.json()["detail"]


def test_a_form_that_is_cut_off_is_a_bad_request(gateway: httpx2.Client) -> None:
    kind = {"content-type": "multipart/form-data; boundary=x"}
    answer = gateway.post("/v1/images", content=b"--x\r\nnothing", headers=kind)
    assert (answer.status_code, answer.json()["type"]) == (400, "urn:retouche:bad-request")


def test_an_image_may_be_cached_for_ever(gateway: httpx2.Client) -> None:
    reference = gateway.post("/v1/images", content=encoded(RED, "PNG")).json()["image"]
    head = gateway.head(f"/v1/images/{reference}")
    assert head.status_code == 200
    assert head.content == b""
    assert "immutable" in head.headers["cache-control"]
    again = gateway.get(f"/v1/images/{reference}", headers={"if-none-match": head.headers["etag"]})
    assert again.status_code == 304
    assert again.content == b""


@pytest.mark.parametrize(
    ("body", "status", "code", "says"),
    [
        (b"", 400, "bad-image", "PNG, JPEG or WebP"),
        (b"hello", 400, "bad-image", "PNG, JPEG or WebP"),
        (encoded(RED, "GIF"), 400, "bad-image", "PNG, JPEG or WebP"),
        (encoded(Image.effect_noise((64, 64), 50), "PNG")[:-900], 400, "bad-image", "send a whole image"),
        (bomb(), 400, "bad-image", "too large|pixels a side"),
        (encoded(Image.new("L", (5000, 8)), "PNG"), 400, "bad-image", "4096 pixels"),
        (b"\0" * 20_000_001, 413, "payload-too-large", "20,000,000"),
    ],
    ids=["empty", "text", "gif", "truncated", "bomb", "wide", "large"],
)
def test_what_is_no_small_whole_image_is_refused(
    gateway: httpx2.Client, body: bytes, status: int, code: str, says: str
) -> None:
    answer = gateway.post("/v1/images", content=body)
    assert answer.headers["content-type"] == "application/problem+json"
    assert (answer.status_code, answer.json()["type"]) == (status, f"urn:retouche:{code}")
    assert re.search(says, answer.json()["detail"])
    assert "object at 0x" not in answer.json()["detail"]


def test_a_reference_that_is_not_in_the_store_says_what_to_do(gateway: httpx2.Client) -> None:
    answer = gateway.get("/v1/images/sha256:" + "0" * 64)
    assert (answer.status_code, answer.json()["type"]) == (404, "urn:retouche:image-not-found")
    assert "POST /v1/images" in answer.json()["detail"]
    assert gateway.get("/v1/images/../../etc/passwd").status_code == 404
    assert gateway.get("/v1/images/sha256:XYZ").status_code == 422
