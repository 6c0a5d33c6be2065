"""Waiting for what another thread or process does."""

import time
from collections.abc import Callable

_MOST_SECONDS = 60.0


def until(happened: Callable[[], object]) -> None:
    """Comes back once it has happened; fails where it never does."""
    end = time.monotonic() + _MOST_SECONDS
    while not happened():
        assert time.monotonic() < end, f"it did not happen in {_MOST_SECONDS:.0f} s"
        time.sleep(0.01)
