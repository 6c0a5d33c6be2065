"""The object store: the one place where images, memoised answers, specifications and shards live.

images/sha256/ab/<hex>.webp      content-addressed, as encoded
prompts/<hex>.ndjson             prompt sets, content-addressed: a JSON string, or a starting image, a line
prompts/<hex>.index              where each of its lines begins, and how often its prompt stood before
memo/<stage>/ab/<hex>.json       a stage's answer under the hash of model and request
jobs/<id>/spec.json              what was asked for
jobs/<id>/cancelled              there while the job is cancelled
jobs/<id>/failed/<n>.json        why a shard was given up; removed by a retry
jobs/<id>/traces/<n>.parquet     every image and edit of a shard, written before its pairs
jobs/<id>/reviews/<µs>-<pair>    a decision about a pair, named by its time; the newest of a pair counts
jobs/<id>/shards/<n>.parquet     a shard's pairs, its report in the schema metadata: the shard's commit
jobs/<id>/gathered.parquet       the pairs of all shards once more, for searching; made anew if it is deleted
keys/<id>.json                   an API key: its tenant, its scopes and the digest of its secret
tenants/<tenant>/jobs/<id>       empty: the tenant may see it; so runs/<id>, prompts/<hex>, images/ab/<hex>
tenants/<tenant>/active/<id>     the job or run counts for the tenant's quota: since when, and if for a retry
latents/<vae>/ab/<hex>           an image's latents under its digest, per autoencoder
embeddings/<encoder>/ab/<hex>    a prompt's embeddings under its digest, per text encoder
relations/<clip>/ab/<hex>        what image and prompt are to a CLIP, under the digest of both
runs/<id>/spec.json              a training run; beside it cancelled, failed.json and finished.json
runs/<id>/evaluations/<hex>.json what was found when it was compared with its base, by content
runs/<id>/metrics.jsonl          what it logged, one line a logging step
runs/<id>/checkpoints/<step>/    what resuming needs; the last two are kept
runs/<id>/artifacts/             the LoRA or the pipeline, the model card, TensorBoard's events
"""

import asyncio
import os
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import suppress
from datetime import timedelta
from hashlib import sha256
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, TypeVar
from urllib.parse import parse_qsl

import obstore
from obstore.store import LocalStore, from_url

from retouche.contract.payload import ImageRef
from retouche.errors import BadRequest, ImageNotFound, NotFound, StoreUnavailable
from retouche.store_errors import translated, unanswered, undecided

if TYPE_CHECKING:
    from obstore.store import RetryConfig

T = TypeVar("T")

RUN_ENDS = ("finished.json", "failed.json", "cancelled")  # beside its specification; the first is for ever

_S3_OPTIONS = ("endpoint", "region", "access_key_id", "secret_access_key")
_CREATE_ATTEMPTS = 5
_BEYOND = 2**40  # bytes: the end of every image

# Of obstore's runtime, which reads it at its first use. As many threads as cores wake each other at every
# call, which cost a service more time than all its Python; files are read in threads of their own anyway.
os.environ.setdefault("TOKIO_WORKER_THREADS", "1")


class ObjectStore:
    """Bytes under paths, in a local folder or S3, GCS or Azure. Every write is whole or not there.

    Raises (all methods):
        StoreFull: no space is left.
        StoreRefused: there is no such bucket, or the credentials do not allow it.
        StoreUnavailable: the store cannot be reached or answers with an error, again and again.
    """

    def __init__(self, url: str, *, timeout_seconds: float = 30.0, retry_seconds: float = 60.0) -> None:
        """`url`: a local folder (created if missing), or `s3://bucket/prefix`, `gs://...`, `az://...`.

        Behind `s3://...?` may stand `endpoint=`, `region=`, `access_key_id=`, `secret_access_key=`; the rest
        comes from the environment, as it does for the others. A request may take `timeout_seconds`; one that
        failed is made again for `retry_seconds`, ten times at most.
        """
        self.url, _, options = url.partition("?") if "://" in url else (url, "", "")
        with translated(self.url):
            if "://" in url:
                retries: RetryConfig = {"max_retries": 10, "retry_timeout": timedelta(seconds=retry_seconds)}
                self._store = from_url(
                    self.url, retry_config=retries, **_configuration(options, timeout_seconds)
                )
            else:
                self._store = LocalStore(Path(url).expanduser().absolute(), mkdir=True)

    async def check(self) -> None:
        """StoreRefused if nothing can be kept here as things are; a store that is away may come back."""
        with suppress(StoreUnavailable), translated(self.url):
            async for _ in obstore.list(self._store, "nothing", chunk_size=1):
                return

    async def get(self, path: str) -> bytes:
        """The bytes at `path`; NotFound if there are none."""
        with translated(path):
            result = await obstore.get_async(self._store, path)
            return bytes(await result.bytes_async())

    def read(self, path: str) -> bytes:
        """`get` for a thread that may wait."""
        with translated(path):
            return bytes(obstore.get(self._store, path).bytes())

    async def part(self, path: str, start: int, end: int) -> bytes:
        """The bytes at `path` from `start` up to `end`; NotFound if there is nothing."""
        with translated(path):
            return bytes(await obstore.get_range_async(self._store, path, start=start, end=end))

    async def put(self, path: str, data: bytes) -> None:
        """Write, replacing what was there."""
        with translated(path):
            await obstore.put_async(self._store, path, data)

    async def create(self, path: str, data: bytes) -> bool:
        """Write if nothing is there; False, and nothing is changed, if something was.

        Where an answer is lost it is tried again: what is there then may be what this very call has written.
        """
        for attempt in range(_CREATE_ATTEMPTS):
            try:
                with translated(path):
                    await obstore.put_async(self._store, path, data, mode="create")
                return True
            except FileExistsError as error:
                if not undecided(error) or await self.exists(path):
                    return False
            except StoreUnavailable as error:
                if not unanswered(error) or attempt + 1 == _CREATE_ATTEMPTS:
                    raise
            await asyncio.sleep(0.05 * 2**attempt)
        raise StoreUnavailable(f"the object store does not decide who creates {path}; try again")

    async def put_file(self, path: str, file: Path | IO[bytes]) -> None:
        """Write a file of any size, an open one from where it stands, replacing what was there."""
        with translated(path):
            await obstore.put_async(self._store, path, file)

    async def stream(self, path: str) -> AsyncIterator[bytes]:
        """The bytes at `path` in parts; NotFound if there are none."""
        with translated(path):
            result = await obstore.get_async(self._store, path)
            async for part in result.stream():
                yield bytes(part)

    async def size(self, path: str) -> int:
        """How many bytes are at `path`; NotFound if there are none."""
        with translated(path):
            return int((await obstore.head_async(self._store, path))["size"])

    async def exists(self, path: str) -> bool:
        try:
            with translated(path):
                await obstore.head_async(self._store, path)
        except NotFound:
            return False
        return True

    async def delete(self, path: str) -> None:
        """Remove what is at `path`, if anything is."""
        try:
            with translated(path):
                await obstore.delete_async(self._store, path)
        except NotFound:
            return

    async def paths(self, prefix: str, after: str | None = None) -> AsyncIterator[str]:
        """Every path below the folder `prefix` that sorts behind `after`, in no particular order."""
        with translated(prefix):
            async for page in obstore.list(self._store, prefix, offset=after):
                for entry in page:
                    yield str(entry["path"])

    async def folders(self, prefix: str) -> list[str]:
        """The names of the folders directly below `prefix`, sorted."""
        with translated(prefix):
            result = await obstore.list_with_delimiter_async(self._store, prefix)
            return sorted(str(found).rstrip("/").rsplit("/", 1)[-1] for found in result["common_prefixes"])

    async def put_image(self, encoded: bytes) -> ImageRef:
        """Store an encoded image under its digest."""
        reference = digest(encoded)
        await self.create(image_path(reference), encoded)
        return reference

    async def get_image(self, reference: ImageRef) -> bytes:
        """The encoded image; ImageNotFound if it is not in the store."""
        try:
            return await self.part(image_path(reference), 0, _BEYOND)  # one call, where `get` is two
        except NotFound:
            raise _no_image(reference) from None

    def read_image(self, reference: ImageRef) -> bytes:
        """`get_image` for a thread that may wait."""
        try:
            return self.read(image_path(reference))
        except NotFound:
            raise _no_image(reference) from None

    async def create_or_get(self, path: str, make: Callable[[], Awaitable[bytes]]) -> tuple[bytes, bool]:
        """What is at `path`, made and written first if nothing is; True if it was already there.

        Of two that make it at once, the first to write wins and both get its bytes.
        """
        try:
            return await self.get(path), True
        except NotFound:
            made = await make()
        if await self.create(path, made):
            return made, False
        return await self.get(path), True


async def open_store(url: str) -> ObjectStore:
    """The store, as a process opens it when it starts: what cannot work is refused then."""
    store = ObjectStore(url)
    await store.check()
    return store


def _no_image(reference: ImageRef) -> ImageNotFound:
    return ImageNotFound(f"image {reference} is not in the store; upload it with POST /v1/images first")


def digest(data: bytes) -> str:
    """`sha256:<hex>` of the bytes."""
    return "sha256:" + sha256(data).hexdigest()


def image_path(reference: ImageRef) -> str:
    hexadecimal = reference.removeprefix("sha256:")
    return f"images/sha256/{hexadecimal[:2]}/{hexadecimal}.webp"


def prompt_set_path(reference: str) -> str:
    return f"prompts/{reference.removeprefix('sha256:')}.ndjson"


def prompt_index_path(reference: str) -> str:
    return f"prompts/{reference.removeprefix('sha256:')}.index"


def memo_path(stage: str, key: str) -> str:
    """`key`: the hex digest of model identity and resolved request."""
    return f"memo/{stage}/{key[:2]}/{key}.json"


def job_path(job_id: str, name: str) -> str:
    return f"jobs/{job_id}/{name}"


def shard_path(job_id: str, kind: str, index: int) -> str:
    """`kind`: `shards`, `traces` or `failed`."""
    ending = "json" if kind == "failed" else "parquet"
    return f"jobs/{job_id}/{kind}/{index:06d}.{ending}"


def review_path(job_id: str, name: str) -> str:
    return f"jobs/{job_id}/reviews/{name}"


def run_path(run_id: str, name: str) -> str:
    return f"runs/{run_id}/{name}"


async def run_has_ended(store: ObjectStore, run_id: str) -> bool:
    """Is there nothing to do: finished, failed or cancelled?"""
    return any([await store.exists(run_path(run_id, marker)) for marker in RUN_ENDS])


def _configuration(options: str, timeout_seconds: float) -> dict[str, Any]:
    """What obstore is to know of an S3 server, from the query of its address; it panics at unknown names."""
    found = dict(parse_qsl(options))
    if unknown := found.keys() - _S3_OPTIONS:
        raise BadRequest(
            f"the store's address has {', '.join(sorted(unknown))} behind its `?`; "
            f"known are {', '.join(_S3_OPTIONS)}"
        )
    client: dict[str, Any] = {"timeout": timedelta(seconds=timeout_seconds)}
    if found.get("endpoint", "").startswith("http:"):
        client["allow_http"] = True
    return {"client_options": client, **({"config": found} if found else {})}


def run(awaitable: Awaitable[T]) -> T:
    """Wait for one store call where there is no event loop."""

    async def wait() -> T:
        return await awaitable

    return asyncio.run(wait())
