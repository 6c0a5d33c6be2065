"""The committed OpenAPI documents are those of the code."""

import pytest

from tests.openapi import APPS, FOLDER, document


@pytest.mark.parametrize("name", APPS)
def test_the_committed_document_is_current(name: str) -> None:
    committed = FOLDER / f"{name}.json"
    assert committed.read_text() == document(name), "run `make openapi` and look at what changed"
