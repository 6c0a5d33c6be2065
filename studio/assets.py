"""Gradio's scripts and styles, a hundred for a visit: kept in memory as they go over the wire.

Gradio itself opens and compresses each anew for every visitor, and lets browsers ask for it again.
"""

import gzip
import mimetypes
from functools import cache
from pathlib import Path

import gradio
from fastapi import APIRouter, HTTPException, Request, Response

router = APIRouter()

_FOLDER = Path(gradio.__file__).parent / "templates" / "frontend" / "assets"
_FOREVER = "public, max-age=31536000, immutable"  # a file's name changes with its content


@router.get("/assets/{name}")
async def asset(name: str, request: Request) -> Response:
    """One of the files that every page loads."""
    if name not in _names():
        raise HTTPException(404, f"there is no {name}")
    kind = mimetypes.guess_type(name)[0]
    headers = {"cache-control": _FOREVER, "vary": "accept-encoding"}
    if "gzip" not in request.headers.get("accept-encoding", ""):
        return Response((_FOLDER / name).read_bytes(), media_type=kind, headers=headers)
    return Response(_compressed(name), media_type=kind, headers=headers | {"content-encoding": "gzip"})


@cache
def _names() -> frozenset[str]:
    return frozenset(file.name for file in _FOLDER.iterdir() if file.is_file())


@cache
def _compressed(name: str) -> bytes:
    return gzip.compress((_FOLDER / name).read_bytes(), compresslevel=6)
