"""Latents, prompt embeddings and relations: computed once per image and prompt, kept in the object store.

Everything lies under the identity of the model that made it, so another run on the same base finds it there,
and a training step never touches the autoencoder or a text encoder. A model is loaded only if something that
it makes is missing.
"""

import asyncio
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from itertools import chain
from typing import TypeVar

import torch
from PIL import Image
from safetensors.torch import save

from retouche.errors import Conflict, ImageNotFound, RetoucheError
from retouche.images import decode
from retouche.store import ObjectStore, image_path, run
from trainer.encoders import Encoders, RelationModel
from trainer.pairs import TrainingPair

BATCH = 16
_ASKED_AT_ONCE = 512  # paths of the store

Told = Callable[[int, int], None]  # how many of how many parts are encoded
Made = Mapping[str, torch.Tensor]
KeyT = TypeVar("KeyT")


@dataclass(frozen=True)
class Encoding:
    """The models that encode pairs, and where in the store what they make lies."""

    encoders: Encoders
    relations: RelationModel | None = None

    def unload(self) -> None:
        """Give the models' memory back, as long as nothing is to be encoded."""
        self.encoders.unload()
        if self.relations is not None:
            self.relations.unload()

    def latents(self, image: str, flipped: bool) -> str:
        name = image.removeprefix("sha256:") + (".flipped" if flipped else "")
        return f"latents/{self.encoders.vae_identity}/{name[:2]}/{name}.safetensors"

    def prompt(self, prompt: str) -> str:
        return _by_digest("embeddings", self.encoders.text_identity, prompt)

    def relation(self, prompt: str, image: str) -> str:
        identity = self.relations.identity if self.relations else ""
        return _by_digest("relations", identity, f"{image}\n{prompt}")


@dataclass(frozen=True)
class _Work:
    """Parts that one model makes: where each goes, what it is made of, and how a batch of them is made."""

    paths: dict[str, tuple[TrainingPair, str, bool]]  # path: pair, image, flipped
    make: Callable[[Sequence[tuple[TrainingPair, str, bool]]], Sequence[Made]]  # may make more: see _full


def encode_pairs(
    store: ObjectStore,
    encoding: Encoding,
    pairs: Sequence[TrainingPair],
    flips: bool = False,
    told: Told = lambda _done, _of: None,
) -> None:
    """Put into the store what it lacks of `pairs`, and the empty prompt.

    Mirrored images are encoded as such: an autoencoder's latents of them are not its mirrored latents.

    Raises:
        Conflict: a pair is a tie, both its images the same; names the pair.
        ImageNotFound: an image is not in the store; names the pair. Both before any model is loaded.
        RetoucheError: an image cannot be read; names the pair.
    """
    _refuse_incomplete(store, pairs)
    works = [_Work(missing(store, work.paths), work.make) for work in _works(store, encoding, pairs, flips)]
    done, total = 0, sum(len(work.paths) for work in works)
    for work in works:
        for part in _chunks(list(work.paths.items()), BATCH):
            made = work.make([item for _, item in part])[: len(part)]
            run(_put(store, {path: save(dict(each)) for (path, _), each in zip(part, made, strict=True)}))
            done += len(part)
            told(done, total)


def _refuse_incomplete(store: ObjectStore, pairs: Sequence[TrainingPair]) -> None:
    sides = {image_path(pair.rejected): (pair, "rejected") for pair in pairs}
    sides |= {image_path(pair.chosen): (pair, "chosen") for pair in pairs}
    for pair, side in missing(store, sides).values():
        raise ImageNotFound(
            f"pair {pair.id}: its {side} image {getattr(pair, side)} is not in the store; put it back, "
            "or curate the job again"
        )
    for pair in pairs:
        if pair.chosen == pair.rejected:
            raise Conflict(f"pair {pair.id}: chosen and rejected are one image, a tie; leave the pair out")


def missing(store: ObjectStore, paths: Mapping[str, KeyT]) -> dict[str, KeyT]:
    """Those of `paths` at which nothing is stored."""

    async def there(part: Sequence[str]) -> list[bool]:
        return await asyncio.gather(*(store.exists(path) for path in part))

    answers = (zip(part, run(there(part)), strict=True) for part in _chunks(list(paths), _ASKED_AT_ONCE))
    return {path: paths[path] for path, is_there in chain.from_iterable(answers) if not is_there}


def _works(
    store: ObjectStore, encoding: Encoding, pairs: Sequence[TrainingPair], flips: bool
) -> Iterator[_Work]:
    empty = TrainingPair("the empty prompt", "", "", "")
    images = [
        (pair, image, flip)
        for pair in pairs
        for image in (pair.chosen, pair.rejected)
        for flip in ((False, True) if flips else (False,))
    ]
    yield _Work(
        {encoding.prompt(pair.prompt): (pair, "", False) for pair in (empty, *pairs)},
        lambda items: encoding.encoders.embed(_full([pair.prompt for pair, _, _ in items])),
    )
    yield _Work(
        {encoding.latents(image, flip): (pair, image, flip) for pair, image, flip in images},
        lambda items: encoding.encoders.encode([_picture(store, *item) for item in items]),
    )
    if (relations := encoding.relations) is not None:
        yield _Work(
            {encoding.relation(pair.prompt, image): (pair, image, False) for pair, image, _ in images},
            lambda items: relations.embed(
                _full([pair.prompt for pair, _, _ in items]),
                _full([_picture(store, *item) for item in items]),
            ),
        )


def _picture(store: ObjectStore, pair: TrainingPair, image: str, flipped: bool) -> Image.Image:
    try:
        picture = decode(run(store.get_image(image)))
    except RetoucheError as error:
        raise type(error)(f"pair {pair.id}: {error.detail}") from None
    return picture.transpose(Image.Transpose.FLIP_LEFT_RIGHT) if flipped else picture


async def _put(store: ObjectStore, parts: Mapping[str, bytes]) -> None:
    await asyncio.gather(*(store.create(path, content) for path, content in parts.items()))


def _full(items: list[KeyT]) -> list[KeyT]:
    """As many as BATCH, the last one repeated: in batches of other sizes a model rounds otherwise, and what
    is kept for ever would depend on what happened to be missing beside it.
    """
    return items + items[-1:] * (BATCH - len(items))


def _chunks(items: Sequence[KeyT], size: int) -> Iterable[Sequence[KeyT]]:
    return (items[begin : begin + size] for begin in range(0, len(items), size))


def _by_digest(kind: str, identity: str, content: str) -> str:
    name = sha256(content.encode()).hexdigest()
    return f"{kind}/{identity}/{name[:2]}/{name}.safetensors"
