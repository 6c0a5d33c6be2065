"""Every objective goes down the path it went down when it was last looked at."""

import json

import pytest

from tests.trainer.golden import FILE, RUNS, losses


@pytest.mark.parametrize("name", RUNS)
def test_ten_steps_lose_what_they_lost_before(name: str) -> None:
    golden = json.loads(FILE.read_text())[name]
    assert losses(RUNS[name]) == pytest.approx(golden, rel=2e-4, abs=1e-6), (
        "the numbers of training have changed; if that is meant, run `python -m tests.trainer.golden`"
    )
