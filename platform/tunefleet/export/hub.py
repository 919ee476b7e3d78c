"""Push a bundle to the Hugging Face Hub: its plain folder with the model card.

Decides that a repository is private unless asked otherwise, that one which holds files already
is written only by ``force`` (its history keeps the old ones), and how the Hub's refusals read.
The token comes from the environment or from ``hf auth login``. Imports huggingface_hub inside.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from tunefleet.api.errors import MachineError, SpecError

_OWN = {".gitattributes", "README.md"}


def push(
    folder: Path, repo: str, names: Sequence[str], *, digest: str, public: bool, force: bool
) -> str:
    """Upload files by name in one commit; returns the commit's address."""
    import httpx
    from huggingface_hub import HfApi, constants
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, OfflineModeIsEnabled

    api = HfApi(endpoint=constants.ENDPOINT)
    try:
        api.create_repo(repo, private=not public, exist_ok=True)
        there = set(api.list_repo_files(repo)) - _OWN
        if there and not force:
            raise SpecError(
                f"{repo} holds {len(there)} files already; it was left as it is",
                remedy="name another repository with --repo, or --force to commit on top of it",
            )
        done = api.upload_folder(
            repo_id=repo,
            folder_path=folder,
            allow_patterns=list(names),
            commit_message=f"tunefleet bundle {digest}",
        )
    except HFValidationError as error:
        raise SpecError(f"{repo} is no repository's name", remedy="write org/name") from error
    except OfflineModeIsEnabled as error:
        raise MachineError("HF_HUB_OFFLINE is set", remedy="unset it to push") from error
    except HfHubHTTPError as error:
        raise MachineError(
            f"the Hub refused {repo}: {str(error).splitlines()[0]}",
            remedy="set HF_TOKEN to a token that may write there",
        ) from error
    except (httpx.HTTPError, OSError) as error:
        raise MachineError(
            f"the Hub at {constants.ENDPOINT} does not answer ({type(error).__name__})",
            remedy="look at the network, or at HF_ENDPOINT",
        ) from error
    return str(done.commit_url)
