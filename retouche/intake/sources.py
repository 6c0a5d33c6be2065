"""Where a data set lies: a file, a folder, or a data set of the Hub; and which of its files hold it."""

from collections.abc import Iterable
from fnmatch import fnmatch
from pathlib import Path, PurePath

from retouche import hub
from retouche.errors import BadPrompts

KINDS = (".parquet", ".jsonl", ".ndjson", ".csv", ".tsv", ".json", ".txt")
_BENCHMARK = "benchmark/*.json"  # HPDv2 keeps its prompts there, beside the annotations of its images
_NO_DATA = ("README*", "LICENSE*", "requirements*", "*config*.json", ".*")


def files_of(source: Path | str) -> list[tuple[str, Path]]:
    """The name for people and the path of every file that holds the data set.

    A source `hf://datasets/OWNER/NAME[@REVISION][/PATH]` is fetched from the Hub.

    Raises:
        BadPrompts: there is no such file or folder, or nothing in it to read.
        RetoucheError: of the Hub, as retouche.hub says.
    """
    if str(source).startswith(hub.SCHEME):
        found = hub.fetch(str(source), choose)
    elif Path(source).is_file():
        found = [(str(source), Path(source))]
    elif Path(source).is_dir():
        names = sorted(str(file.relative_to(source)) for file in Path(source).rglob("*") if file.is_file())
        found = [(f"{source}/{name}", Path(source, name)) for name in choose(names)]
    else:
        raise BadPrompts(f"there is no file or folder {source}")
    if not found:
        raise BadPrompts(f"{source} holds no file of {', '.join(KINDS)}")
    return found


def choose(names: Iterable[str]) -> list[str]:
    """The files with a data set's rows: of one kind, and of the training split where it has splits."""
    data = [name for name in names if not any(fnmatch(PurePath(name).name, no) for no in _NO_DATA)]
    if benchmark := [name for name in data if fnmatch(name, _BENCHMARK)]:
        return benchmark
    for kind in KINDS:
        if found := [name for name in data if PurePath(name).suffix.lower() == kind]:
            named = [name for name in found if PurePath(name).name.startswith("train")]
            return named or [name for name in found if "train" in PurePath(name).parts[:-1]] or found
    return []
