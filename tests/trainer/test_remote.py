"""What the training process finds in the store and in its own folder when it starts."""

from pathlib import Path

import pytest
from redis import Redis

from retouche.store import ObjectStore
from tests.trainer import worlds
from trainer.checkpoints import last_step
from trainer.remote import Remote

STEP_6 = worlds.metrics(6)


@pytest.fixture
def remote(store: ObjectStore) -> Remote:
    return Remote(store, Redis(port=1), "run-" + "0" * 16)


def checkpoint(folder: Path, step: int) -> Path:
    made = folder / "checkpoints" / f"{step:08d}"
    made.mkdir(parents=True)
    (made / "state.json").write_text(str(step))
    return made


def test_checkpoints_of_a_run_that_the_store_knows_nothing_of_are_not_resumed(
    remote: Remote, tmp_path: Path
) -> None:
    """Runs are named by their content, so one in a new store finds the folder of the one before."""
    checkpoint(tmp_path, 6)
    remote.fetch_checkpoints(tmp_path)
    assert last_step(tmp_path) == 0


def test_a_store_that_has_not_come_as_far_has_the_last_word(remote: Remote, tmp_path: Path) -> None:
    remote.keep_checkpoint(checkpoint(tmp_path / "elsewhere", 4))
    checkpoint(tmp_path / "here", 6)
    remote.fetch_checkpoints(tmp_path / "here")
    assert last_step(tmp_path / "here") == 4


def test_a_checkpoint_that_was_logged_and_not_yet_kept_in_the_store_is_resumed(
    remote: Remote, tmp_path: Path
) -> None:
    """As after a kill in the middle of the upload."""
    remote.keep_checkpoint(checkpoint(tmp_path / "elsewhere", 4))
    checkpoint(tmp_path / "here", 6)
    remote.log(STEP_6)
    remote.fetch_checkpoints(tmp_path / "here")
    assert last_step(tmp_path / "here") == 6
