"""An address or a key that cannot be used is said when a client is made, and leaves nothing behind."""

import threading

import pytest

from retouche.client import Retouche
from retouche.errors import BadRequest
from tests.gateway.server import NOTHING_LISTENS


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("http://localhost:870x", "Invalid port: '870x'"),
        ("http://localhost:99999", "port 99999 is not from 1 to 65535"),
        ("http://localhost:0", "port 0 is not from 1 to 65535"),
        ("gateway:8700", "neither http:// nor https://"),
        ("", "neither http:// nor https://"),
        ("http://:8700", "it names no host"),
    ],
)
def test_an_address_that_is_none(url: str, says: str) -> None:
    with pytest.raises(BadRequest, match=says) as caught:
        Retouche(url)
    assert caught.value.detail.startswith(f"{url!r} is no address")


@pytest.mark.parametrize("key", ["schlüssel", "secret\n", "sec\nret", " secret"])
def test_a_key_that_cannot_be_sent_is_not_shown(key: str) -> None:
    with pytest.raises(BadRequest, match="printable ASCII") as caught:
        Retouche(NOTHING_LISTENS, api_key=key)
    assert key.strip() not in caught.value.detail


def test_a_client_that_cannot_be_made_leaves_no_thread() -> None:
    before = threading.active_count()
    with pytest.raises(BadRequest):
        Retouche("http://localhost:99999")
    assert threading.active_count() == before


def test_closing_twice_is_harmless() -> None:
    with Retouche(NOTHING_LISTENS) as client:
        client.close()
