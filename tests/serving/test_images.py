"""Images of a request: references stay as they are, what comes as a data URI is stored, in little memory."""

import asyncio
import base64
import subprocess
import sys

import pytest
from PIL import Image

from retouche.errors import BadImage
from retouche.images import encode
from retouche.store import ObjectStore
from serving.images import all_referenced

MEMORY = """
import asyncio, base64, os, resource, sys
from PIL import Image
from retouche.images import encode
from retouche.store import ObjectStore
from serving.images import all_referenced

def peak_megabytes():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024

def uri(number):
    encoded = encode(Image.new("RGB", (1024, 1024), (number, 0, 0)))
    return "data:image/webp;base64," + base64.b64encode(encoded).decode()

uris = [uri(number) for number in range(int(sys.argv[2]))]
before = peak_megabytes()
asyncio.run(all_referenced(ObjectStore(sys.argv[1]), uris))
print(sum(map(len, uris)), peak_megabytes() - before, flush=True)
os._exit(0)  # once in many times the store's runtime aborts a process that ends right after its last call
"""


class Counted(ObjectStore):
    """Notes what is stored."""

    def __init__(self, url: str) -> None:
        super().__init__(url)
        self.stored: list[str] = []

    async def put_image(self, encoded: bytes) -> str:
        self.stored.append(await super().put_image(encoded))
        return self.stored[-1]


def uri(color: str) -> str:
    encoded = encode(Image.new("RGB", (8, 8), color))
    return "data:image/webp;base64," + base64.b64encode(encoded).decode()


def test_each_gets_its_reference_and_what_is_sent_twice_is_stored_once(store: ObjectStore) -> None:
    counted, known = Counted(store.url), "sha256:" + "0" * 64
    sent = [uri("red"), known, uri("blue"), uri("red")]
    red, same, blue, again = asyncio.run(all_referenced(counted, sent))
    assert same == known
    assert red == again != blue
    assert sorted(counted.stored) == sorted([red, blue])


def test_one_that_is_no_image_refuses_all(store: ObjectStore) -> None:
    with pytest.raises(BadImage, match="PNG, JPEG or WebP"):
        asyncio.run(all_referenced(store, [uri("red"), "data:image/png;base64,AAAA", uri("blue")]))


def test_a_few_kilobytes_of_data_uris_do_not_fill_the_memory(store: ObjectStore) -> None:
    """Pixels are thousands of times what a picture of one colour takes: few are in memory at a time."""
    command = [sys.executable, "-c", MEMORY, store.url, "160"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    sent_bytes, grown_megabytes = map(int, done.stdout.split())
    assert sent_bytes < 20_000
    assert grown_megabytes < 400, "160 pictures of 1024 x 1024 take 670 MB as pixels alone"
