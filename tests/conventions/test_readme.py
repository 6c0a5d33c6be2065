"""The README says what is on the disk."""

import re
import subprocess
from pathlib import Path

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()


def tracked_folders() -> set[str]:
    """Top-level folders that git knows, hidden ones aside."""
    listing = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    tops = {line.split("/")[0] for line in listing.splitlines() if "/" in line}
    return {top for top in tops if not top.startswith(".")}


def test_the_tree_is_the_disk() -> None:
    tree = re.search(r"```text\n(.*?)```", README, re.S)
    assert tree is not None
    drawn = {line.split("/")[0] for line in tree.group(1).splitlines() if line and line[0] != " "}
    assert drawn == tracked_folders()


def test_make_targets_exist() -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.M))
    assert set(re.findall(r"^    make ([a-z-]+)", README, re.M)) <= targets


def test_every_linked_file_is_there() -> None:
    links = re.findall(r"\]\((?!http)([^)#]+)\)", README)
    assert [link for link in links if not (ROOT / link).exists()] == []
