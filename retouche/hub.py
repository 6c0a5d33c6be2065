"""The Hugging Face Hub: fetch the files of a data set, push a folder as one.

Which Hub, with which token and cache, is huggingface_hub's: `hf auth login`, HF_TOKEN, HF_ENDPOINT, HF_HOME.

Raises (all functions):
    BadRequest: huggingface_hub is not installed, or the Hub refuses the name or the files.
    NotFound: there is no such data set, or revision.
    Unauthorized: the token is missing or wrong, or may not do that.
    ServiceUnreachable: the Hub does not answer, or fails.
"""

import re
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from fnmatch import fnmatch
from pathlib import Path
from typing import TYPE_CHECKING

import httpx2

from retouche.errors import BadRequest, NotFound, ServiceUnreachable, Unauthorized

if TYPE_CHECKING:
    from huggingface_hub import HfApi

SCHEME = "hf://"
EARLIER_DATA = "data/*"
_DATA_SET = re.compile(r"^hf://datasets/([^/@]+/[^/@]+)(?:@([^/]+))?(?:/(.+))?$")


def push(folder: Path, repository: str, *, private: bool) -> str:
    """Commit all files of `folder` at once to the data set `repository`, made if need be; its address.

    What an earlier push left in the repository's data folder goes: it would be read as rows of this one.
    """
    hub = _hub()
    with _errors(f"{repository} at {hub.endpoint}"):
        hub.create_repo(repository, repo_type="dataset", private=private, exist_ok=True)
        commit = hub.upload_folder(
            repo_id=repository,
            repo_type="dataset",
            folder_path=folder,
            delete_patterns=EARLIER_DATA,
            commit_message=f"Preference pairs: {folder.name}",
        )
    return str(commit.repo_url)


def fetch(address: str, choose: Callable[[Iterable[str]], list[str]]) -> list[tuple[str, Path]]:
    """The addresses and local copies of those files that `choose` takes of a data set's names.

    `address`: `hf://datasets/OWNER/NAME[@REVISION][/PATH]`, the path one of a file, of a folder or a pattern.
    """
    if (parts := _DATA_SET.match(address)) is None:
        raise BadRequest(f"{address} is not hf://datasets/OWNER/NAME, with @REVISION and /PATH if need be")
    repository, revision, path = parts.groups()
    hub = _hub()
    with _errors(f"{address} at {hub.endpoint}"):
        names = hub.list_repo_files(repository, repo_type="dataset", revision=revision)
        chosen = choose(name for name in sorted(names) if _below(name, path))
        if not chosen:
            return []
        root = hub.snapshot_download(
            repository, repo_type="dataset", revision=revision, allow_patterns=chosen
        )
    return [(f"{SCHEME}datasets/{repository}/{name}", Path(root, name)) for name in chosen]


def _below(name: str, path: str | None) -> bool:
    return path is None or name == path or name.startswith(f"{path.rstrip('/')}/") or fnmatch(name, path)


def _hub() -> "HfApi":
    try:
        from huggingface_hub import HfApi
    except ImportError:
        raise BadRequest(
            "the Hub needs huggingface_hub; install it with: pip install 'retouche[hub]'"
        ) from None
    return HfApi()


@contextmanager
def _errors(what: str) -> Iterator[None]:
    """huggingface_hub's errors as ours, naming `what` was asked for."""
    from huggingface_hub.errors import (
        HfHubHTTPError,
        HFValidationError,
        LocalEntryNotFoundError,
        OfflineModeIsEnabled,
    )

    try:
        yield
    except HFValidationError as error:
        raise BadRequest(f"{what}: {error}") from None
    except HfHubHTTPError as error:
        raise _refused(what, error.response.status_code, error.server_message or str(error)) from None
    except (LocalEntryNotFoundError, OfflineModeIsEnabled, httpx2.TransportError) as error:
        raise ServiceUnreachable(f"the Hub cannot be reached for {what}: {error}") from None


def _refused(what: str, status: int, said: str) -> Exception:
    said = said.splitlines()[0]
    if status in (401, 403):
        return Unauthorized(
            f"the Hub refuses {what} with {status} ({said}); log in with `hf auth login` as one who may"
        )
    if status == 404:
        return NotFound(f"the Hub has no {what}: {said}")
    if status >= 500:
        return ServiceUnreachable(f"the Hub failed for {what} with {status}: {said}")
    return BadRequest(f"the Hub refuses {what} with {status}: {said}")
