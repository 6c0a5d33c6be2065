"""A row of an export whose original was there before the job."""

from datetime import UTC, datetime

import pytest

from retouche.contract.jobs import ModelIdentities
from retouche.contract.payload import ModelIdentity
from retouche.export.card import Statistics
from retouche.export.layout import row
from tests.retouche.test_pairs import EDIT, ORIGINAL, pair

EDITOR = ModelIdentity(id="editor", revision="1")


@pytest.mark.parametrize("identifier", ["pair-1", "pair-2", "pair-3", "pair-4"])
def test_an_existing_image_stands_with_its_origin_in_place_of_a_model(identifier: str) -> None:
    models = ModelIdentities(critique=EDITOR, instruction=EDITOR, editing=EDITOR, rewards={})
    started = pair(id=identifier, models=models, origin="a.parquet row 7", generation_seed=None)
    images = {ORIGINAL: b"original", EDIT: b"edit"}
    written = row(started, images, pairs_of_prompt=1, created_at=datetime(2026, 1, 1, tzinfo=UTC))
    original = "1" if written["jpg_0"] == b"edit" else "0"
    assert written[f"model_{original}"] == written["origin"] == "a.parquet row 7"
    assert written["generation_model"] is None
    assert written["generation_seed"] is None
    statistics = Statistics()
    statistics.add("train", started)
    assert statistics.models["generation"] == {"none: existing images"}
