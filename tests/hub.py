"""A small Hub on loopback: as much of the Hugging Face Hub's HTTP interface as huggingface_hub itself calls
to make a data set, commit files to it over LFS, list them and download them. One token may write."""

import base64
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Any

import yaml
from fastapi import FastAPI, Request, Response
from fastapi.responses import JSONResponse

TOKEN = "hf_mayWrite"


@dataclass
class Hub:
    """What has been committed: repository to path to content. `failures`: the next answers, as statuses."""

    files: dict[str, dict[str, bytes]] = field(default_factory=dict)
    private: set[str] = field(default_factory=set)
    uploaded: dict[str, bytes] = field(default_factory=dict)
    failures: list[int] = field(default_factory=list)


def environment(url: str, token: str = TOKEN) -> Mapping[str, str]:
    """What makes huggingface_hub talk to the Hub at `url`, and by plain HTTP."""
    return {"HF_ENDPOINT": url, "HF_TOKEN": token, "HF_HUB_DISABLE_XET": "1", "HF_HUB_OFFLINE": "0"}


def create_app(hub: Hub) -> FastAPI:
    app = FastAPI()

    @app.middleware("http")
    async def refuse(request: Request, call_next: Any) -> Response:
        if hub.failures:
            return JSONResponse({"error": "as told"}, hub.failures.pop(0))
        if request.method == "POST" and request.headers.get("authorization") != f"Bearer {TOKEN}":
            return JSONResponse({"error": "Invalid username or password."}, 401)
        answer: Response = await call_next(request)
        return answer

    @app.post("/api/repos/create")
    async def create(request: Request) -> Response:
        wanted = await request.json()
        name = f"{wanted['organization']}/{wanted['name']}"
        if wanted.get("visibility") == "private":
            hub.private.add(name)
        status = 409 if name in hub.files else 200
        hub.files.setdefault(name, {})
        return JSONResponse({"url": f"{request.base_url}datasets/{name}", "error": "exists"}, status)

    @app.post("/api/validate-yaml")
    async def validate_yaml(request: Request) -> dict[str, Any]:
        yaml.safe_load((await request.json())["content"].split("---\n")[1])
        return {"errors": [], "warnings": []}

    @app.post("/api/datasets/{owner}/{name}/preupload/{revision}")
    async def preupload(request: Request) -> dict[str, Any]:
        paths = [file["path"] for file in (await request.json())["files"]]
        modes = {path: "lfs" if path.endswith(".parquet") else "regular" for path in paths}
        return {"files": [{"path": p, "uploadMode": m, "shouldIgnore": False} for p, m in modes.items()]}

    @app.post("/datasets/{owner}/{name}.git/info/lfs/objects/batch")
    async def batch(request: Request) -> dict[str, Any]:
        wanted = (await request.json())["objects"]
        address = str(request.base_url) + "lfs/"
        return {"objects": [{**one, "actions": {"upload": {"href": address + one["oid"]}}} for one in wanted]}

    @app.put("/lfs/{oid}")
    async def put(oid: str, request: Request) -> None:
        content = await request.body()
        assert sha256(content).hexdigest() == oid
        hub.uploaded[oid] = content

    @app.post("/api/datasets/{owner}/{name}/commit/{revision}")
    async def commit(owner: str, name: str, request: Request) -> dict[str, Any]:
        files = hub.files[f"{owner}/{name}"]
        for line in (await request.body()).splitlines():
            entry = json.loads(line)
            if entry["key"] == "file":
                files[entry["value"]["path"]] = base64.b64decode(entry["value"]["content"])
            if entry["key"] == "lfsFile":
                files[entry["value"]["path"]] = hub.uploaded[entry["value"]["oid"]]
            if entry["key"] == "deletedFile":
                del files[entry["value"]["path"]]
        return {"commitUrl": f"{request.base_url}datasets/{owner}/{name}/commit/1", "commitOid": "1" * 40}

    @app.get("/api/datasets/{owner}/{name}/tree/{revision}")
    async def tree(owner: str, name: str) -> Response:
        if (files := hub.files.get(f"{owner}/{name}")) is None:
            return _missing("RepoNotFound", "Repository not found")
        entries = [{"type": "file", "path": p, "size": len(c), "oid": _etag(c)} for p, c in files.items()]
        return JSONResponse(entries)

    @app.get("/api/datasets/{owner}/{name}/revision/{revision}")
    async def revision(owner: str, name: str) -> dict[str, Any]:
        files = [{"rfilename": path} for path in hub.files[f"{owner}/{name}"]]
        return {"id": f"{owner}/{name}", "sha": "1" * 40, "siblings": files}

    @app.head("/datasets/{owner}/{name}/resolve/{revision}/{path:path}")
    @app.get("/datasets/{owner}/{name}/resolve/{revision}/{path:path}")
    async def resolve(owner: str, name: str, path: str) -> Response:
        content = hub.files.get(f"{owner}/{name}", {}).get(path)
        if content is None:
            return _missing("EntryNotFound", "Entry not found")
        headers = {"etag": f'"{_etag(content)}"', "x-repo-commit": "1" * 40}
        return Response(content, headers=headers, media_type="application/octet-stream")

    return app


def _missing(code: str, message: str) -> Response:
    return JSONResponse({"error": message}, 404, headers={"x-error-code": code, "x-error-message": message})


def _etag(content: bytes) -> str:
    return sha256(content).hexdigest()[:40]
