"""Upload and fetch images."""

from typing import Any

from fastapi import APIRouter, Request, Response
from starlette.datastructures import UploadFile

from gateway.callers import READ, SERVICES, TheCaller
from gateway.ownership import OwnImage
from retouche.contract.jobs import ImageInfo
from retouche.errors import BadRequest, PayloadTooLarge
from retouche.images import MAX_BYTES, decode, encode, media_type
from retouche.tenancy import own
from serving.images import decoding

router = APIRouter(tags=["images"])

_BINARY = {"type": "string", "format": "binary"}
_FORM = {"type": "object", "properties": {"image": _BINARY}, "required": ["image"]}
_BODY = {
    "requestBody": {
        "required": True,
        "content": {
            **{kind: {"schema": _BINARY} for kind in ("image/png", "image/jpeg", "image/webp")},
            "multipart/form-data": {"schema": _FORM},
        },
    }
}

_UNCHANGED: dict[int | str, dict[str, Any]] = {304: {"description": "If-None-Match names it"}}
_IMAGE = {200: {"content": {"image/webp": {"schema": _BINARY}}}, **_UNCHANGED}


@router.post("/v1/images", status_code=201, openapi_extra=_BODY, dependencies=[SERVICES])
async def upload(caller: TheCaller, request: Request) -> ImageInfo:
    """Store the image in the request's body, or in a form's field `image`; it is known by the digest of its
    lossless WebP."""
    form = request.headers.get("content-type", "").startswith("multipart/form-data")
    data = await (_field(request) if form else _body(request))
    (width, height), encoded = await decoding(_lossless, data)
    reference = await request.app.state.store.put_image(encoded)
    await own(request.app.state.store, caller.tenant, "images", reference)
    return ImageInfo(
        image=reference,
        width=width,
        height=height,
        bytes=len(encoded),
        media_type="image/webp",
    )


@router.head("/v1/images/{image}", response_class=Response, dependencies=[READ], responses=_UNCHANGED)
@router.get("/v1/images/{image}", response_class=Response, dependencies=[READ], responses=_IMAGE)
async def fetch(request: Request, image: OwnImage) -> Response:
    """The encoded image; it never changes, so it may be cached for ever."""
    headers = {"cache-control": "private, max-age=31536000, immutable", "etag": f'"{image}"'}
    if request.headers.get("if-none-match") == headers["etag"]:
        return Response(status_code=304, headers=headers)
    data = await request.app.state.store.get_image(image)
    return Response(data, headers=headers, media_type=media_type(data))


async def _field(request: Request) -> bytes:
    async with request.form(max_files=1, max_fields=0) as form:
        image = form.get("image")
        if not isinstance(image, UploadFile):
            raise BadRequest("the form has no file in its field `image`; send one, or the image as the body")
        if (image.size or 0) > MAX_BYTES:
            raise _too_large()
        return await image.read()


def _too_large() -> PayloadTooLarge:
    return PayloadTooLarge(f"an image may have {MAX_BYTES:,} bytes; make it smaller")


async def _body(request: Request) -> bytes:
    data = bytearray()
    async for part in request.stream():
        data += part
        if len(data) > MAX_BYTES:
            raise _too_large()
    return bytes(data)


def _lossless(data: bytes) -> tuple[tuple[int, int], bytes]:
    """Width and height, and the image encoded; its pixels do not wait for the store."""
    image = decode(data)
    return image.size, encode(image)
