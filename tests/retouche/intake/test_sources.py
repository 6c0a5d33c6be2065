"""Which files of a data set hold its rows."""

from retouche.intake.sources import choose


def test_only_the_training_split_is_taken_whether_files_or_folders_are_named_after_it() -> None:
    assert choose(["test-0.parquet", "train-0.parquet"]) == ["train-0.parquet"]
    assert choose(["data/test/0.parquet", "data/train/0.parquet"]) == ["data/train/0.parquet"]
    assert choose(["a/0.parquet", "b/0.parquet"]) == ["a/0.parquet", "b/0.parquet"]
