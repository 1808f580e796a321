"""Downloads a model repository from a Hugging Face hub, only the files that are needed."""

import shutil
from pathlib import Path

from outrider_common.errors import ModelFileError, UnavailableError, UnknownModelError
from outrider_models.extras import needs_extra
from outrider_models.reference import HubReference

FILE_PATTERNS = ("*.safetensors", "*.json", "*.jinja", "tokenizer.model", "merges.txt", "vocab.txt")
"""Weights, settings, tokenizer and chat template; no other weight formats, no pictures."""


def download_snapshot(
    reference: HubReference, directory: Path, *, endpoint: str | None = None
) -> None:
    """Fetch a repository's files into a directory, but not what is there from an earlier attempt.

    Args:
        reference: repository and revision.
        directory: where to write; exists.
        endpoint: base address of the hub; None: the client's own default.

    Raises:
        UnknownModelError: the hub has no such repository or revision, or does not show it to us.
        UnavailableError: the hub cannot be reached, or the transfer broke off.
        ModelFileError: the repository holds no model.
        MissingExtraError: the hub's client is not installed.
    """
    with needs_extra("export", "Pulling from a hub"):
        import huggingface_hub
        from huggingface_hub.errors import (
            GatedRepoError,
            RepositoryNotFoundError,
            RevisionNotFoundError,
        )
    try:
        huggingface_hub.snapshot_download(
            reference.repository,
            revision=reference.revision,
            local_dir=directory,
            allow_patterns=list(FILE_PATTERNS),
            endpoint=endpoint,
        )
    except GatedRepoError as error:
        raise UnknownModelError(
            f"{reference} is gated: accept its terms on the hub, and log in with its client."
        ) from error
    except (RepositoryNotFoundError, RevisionNotFoundError) as error:
        raise UnknownModelError(
            f"The hub has no {reference}: check the spelling, or log in if it is private."
        ) from error
    except Exception as error:  # the client lets its transport's errors through, of no common base
        raise UnavailableError(
            f"{reference} could not be fetched from the hub ({_first_line(error)}): "
            "check the network, and pull again to go on where it stopped."
        ) from error
    _finish(reference, directory)


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


def _finish(reference: HubReference, directory: Path) -> None:
    if not (directory / "config.json").is_file() or not any(directory.glob("*.safetensors")):
        raise ModelFileError(
            f"{reference} is not a model that can be used here: it lacks a config.json or "
            "*.safetensors; choose a repository in the Transformers format."
        )
    shutil.rmtree(directory / ".cache", ignore_errors=True)
