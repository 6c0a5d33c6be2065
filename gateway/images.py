"""Upload and fetch images."""

import asyncio

from fastapi import APIRouter, Request, Response

from gateway.callers import READ, SERVICES, TheCaller
from gateway.ownership import OwnImage
from retouche.contract.jobs import ImageInfo
from retouche.errors import PayloadTooLarge
from retouche.images import MAX_BYTES, decode, encode, media_type
from retouche.tenancy import own

router = APIRouter(tags=["images"])

_BODY = {
    "requestBody": {
        "required": True,
        "content": {
            kind: {"schema": {"type": "string", "format": "binary"}}
            for kind in ("image/png", "image/jpeg", "image/webp")
        },
    }
}


@router.post("/v1/images", status_code=201, openapi_extra=_BODY, dependencies=[SERVICES])
async def upload(caller: TheCaller, request: Request) -> ImageInfo:
    """Store the image in the request's body; it is known by the digest of its lossless WebP."""
    image = await asyncio.to_thread(decode, await _body(request))
    encoded = await asyncio.to_thread(encode, image)
    reference = await request.app.state.store.put_image(encoded)
    await own(request.app.state.store, caller.tenant, "images", reference)
    return ImageInfo(
        image=reference,
        width=image.width,
        height=image.height,
        bytes=len(encoded),
        media_type="image/webp",
    )


@router.head("/v1/images/{image}", response_class=Response, dependencies=[READ])
@router.get("/v1/images/{image}", response_class=Response, dependencies=[READ])
async def fetch(request: Request, image: OwnImage) -> Response:
    """The encoded image; it never changes, so it may be cached for ever."""
    headers = {"cache-control": "private, max-age=31536000, immutable", "etag": f'"{image}"'}
    if request.headers.get("if-none-match") == headers["etag"]:
        return Response(status_code=304, headers=headers)
    data = await request.app.state.store.get_image(image)
    return Response(data, headers=headers, media_type=media_type(data))


async def _body(request: Request) -> bytes:
    data = bytearray()
    async for part in request.stream():
        data += part
        if len(data) > MAX_BYTES:
            raise PayloadTooLarge(f"an image may have {MAX_BYTES:,} bytes; make it smaller")
    return bytes(data)
