"""Push an exported folder to the Hugging Face Hub."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx2

from retouche.errors import BadRequest, ServiceUnreachable, Unauthorized


def push(folder: Path, repository: str, *, private: bool) -> str:
    """Commit all files of `folder` at once to the data set `repository`, made if need be; its address.

    Which Hub, and with which token, is huggingface_hub's: `hf auth login`, HF_TOKEN, HF_ENDPOINT.

    Raises:
        BadRequest: huggingface_hub is not installed, or the Hub refuses the name or the files.
        Unauthorized: the token is missing or wrong, or may not write there.
        ServiceUnreachable: the Hub does not answer, or fails.
    """
    try:
        from huggingface_hub import HfApi
    except ImportError:
        raise BadRequest(
            "--push-to-hub needs huggingface_hub; install it with: pip install 'retouche[hub]'"
        ) from None
    hub = HfApi()
    with hub_errors(f"{repository} at {hub.endpoint}"):
        hub.create_repo(repository, repo_type="dataset", private=private, exist_ok=True)
        commit = hub.upload_folder(
            repo_id=repository,
            repo_type="dataset",
            folder_path=folder,
            commit_message=f"Preference pairs: {folder.name}",
        )
    return str(commit.repo_url)


@contextmanager
def hub_errors(what: str) -> Iterator[None]:
    """huggingface_hub's errors as ours, naming `what` was asked for."""
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, OfflineModeIsEnabled

    try:
        yield
    except HFValidationError as error:
        raise BadRequest(f"{what}: {error}") from None
    except HfHubHTTPError as error:
        status, said = error.response.status_code, error.server_message or str(error).splitlines()[0]
        if status in (401, 403):
            raise Unauthorized(
                f"the Hub refuses {what} with {status} ({said}); log in with `hf auth login` as one who may"
            ) from None
        if status >= 500:
            raise ServiceUnreachable(f"the Hub failed for {what} with {status}: {said}") from None
        raise BadRequest(f"the Hub refuses {what} with {status}: {said}") from None
    except (OfflineModeIsEnabled, httpx2.TransportError) as error:
        raise ServiceUnreachable(f"the Hub cannot be reached for {what}: {error}") from None
