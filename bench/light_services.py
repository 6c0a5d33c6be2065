"""The five services as light as they can be: canned answers, so that what calls them is what is measured.

`python -m bench.light_services --port PORT`. One image in EDITED goes through every stage and becomes a pair;
the critic finds nothing to correct in the others.
"""

import argparse
import hashlib
import json

import uvicorn
from starlette.types import Receive, Scope, Send

EDITED = 16
_MODEL = {"id": "light", "revision": "1"}
_MODELS = {"light": _MODEL}
_FINDING = {"aspect": "color", "subject": "the square", "problem": "is not red"}
_INSTRUCTION = {"action": "recolor", "target": "the square", "text": "make it red"}
_JSON = [(b"content-type", b"application/json")]


async def app(scope: Scope, receive: Receive, send: Send) -> None:
    """Answers by the path, and for critiques by the image."""
    if scope["type"] != "http":
        return
    body, more = b"", True
    while more:
        message = await receive()
        body += message.get("body", b"")
        more = message.get("more_body", False)
    content = json.dumps(_answer(scope["path"], body)).encode()
    await send({"type": "http.response.start", "status": 200, "headers": _JSON})
    await send({"type": "http.response.body", "body": content})


def _answer(path: str, body: bytes) -> dict[str, object]:
    if path == "/readyz":
        return {"models": _MODELS, "margins": {"light": 0.001}}
    asked = json.loads(body)
    if path in ("/v1/generate", "/v1/edit"):
        return {"image": "sha256:" + hashlib.sha256(body).hexdigest(), "model": _MODEL}
    if path == "/v1/critique":
        findings = [_FINDING] if int(asked["image"][-2:], 16) % EDITED == 0 else []
        return {"critique": {"description": "a square", "findings": findings}, "model": _MODEL}
    if path == "/v1/instruct":
        return {"instructions": [_INSTRUCTION], "model": _MODEL}
    scores = [{"light": {"raw": float(place), "published": 0.0}} for place, _ in enumerate(asked["images"])]
    return {"scores": scores, "models": _MODELS}


def main() -> None:
    """Serve until told to stop."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int, required=True)
    uvicorn.run(app, host="127.0.0.1", port=parser.parse_args().port, log_level="warning", lifespan="off")


if __name__ == "__main__":
    main()
