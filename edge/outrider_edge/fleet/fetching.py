"""Brings an offered drafter into the model store: downloads, compares, unpacks and looks at it.

Nothing of it is in the store before all of it is known to be right. Blocks: run it in a thread.
"""

import shutil
import tarfile
import urllib.parse
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Final

from outrider_common.errors import UnavailableError
from outrider_edge.fleet.downloading import Download, Patience, Transfer, too_large, unreadable
from outrider_edge.fleet.rollout import BadDrafterError, Offer
from outrider_models.bundle import Bundle
from outrider_models.checksums import is_plain_relative, sha256_of
from outrider_models.store import Kind, ModelStore

_CHUNK_BYTES: Final = 1 << 20
_MAX_MEMBERS: Final = 1000
_PART: Final = ".part"


def fetch(
    offer: Offer,
    store: ModelStore,
    max_bytes: int,
    transfer: Transfer,
    ca_file: Path | None = None,
    patience: Patience = Patience(),  # noqa: B008 - immutable
) -> Path:
    """Have the bundle of an offer in the store; one that is there already is looked at again.

    Args:
        offer: its signature has been checked.
        store: where it goes.
        max_bytes: the largest .tar, and the largest bundle, that is taken.
        transfer: ends it early.
        ca_file: certificates by which a server may be known, beside the system's.
        patience: with a server.

    Returns:
        The directory of the bundle.

    Raises:
        BadDrafterError: it is not what the offer says, or not what a bundle may be.
        ModelFileError: it is a bundle with a fault.
        UnavailableError: it could not be downloaded; another time it may be, and goes on there.
    """
    archive = _archive(offer, store)
    download = Download(offer.uri, max_bytes, ca_file, patience)

    def fill(directory: Path) -> None:
        _drop_others(archive)
        try:
            _bring(offer, download, archive, transfer)
            _unpack(archive, directory, max_bytes)
            Bundle.load(directory, verify=True)
        except UnavailableError:
            raise  # what came of it is of use another time
        except BaseException:
            archive.unlink(missing_ok=True)
            raise
        archive.unlink()

    path = store.install(Kind.BUNDLE, offer.bundle, fill)
    Bundle.load(path, verify=True)
    return path


def num_bytes_here(offer: Offer, store: ModelStore) -> int:
    """How much of an offer's archive is here from downloads that broke off."""
    archive = _archive(offer, store)
    return archive.stat().st_size if archive.exists() else 0


def _archive(offer: Offer, store: ModelStore) -> Path:
    """Where an archive is as long as it is not complete, or not unpacked."""
    return store.path_of(Kind.BUNDLE, offer.bundle).with_name(f".{offer.bundle}{_PART}")


def _drop_others(archive: Path) -> None:
    """What is here of other offers is not wanted any more."""
    for path in archive.parent.glob(f".*{_PART}"):
        if path != archive:
            path.unlink(missing_ok=True)


def _bring(offer: Offer, download: Download, archive: Path, transfer: Transfer) -> None:
    """Have the whole archive here, with the right checksum.

    Raises:
        BadDrafterError: it has another one, also when it is read in one go.
        UnavailableError: it cannot be read to its end.
    """
    if archive.exists():
        if sha256_of(archive) == offer.sha256:
            return
        _read(download, archive, transfer)
        if sha256_of(archive) == offer.sha256:
            return
        archive.unlink()  # its beginning may be that of another file
    _read(download, archive, transfer)
    if (found := sha256_of(archive)) != offer.sha256:
        raise BadDrafterError(
            f"The drafter at {offer.uri} has the checksum {found} instead of {offer.sha256}; see "
            "that it is the file that was signed."
        )


def _read(download: Download, archive: Path, transfer: Transfer) -> None:
    """Read what an address names, by what its scheme asks for."""
    try:
        parts = urllib.parse.urlsplit(download.uri)
    except ValueError as error:
        raise unreadable(download.uri, error) from error
    match parts.scheme:
        case "https":
            download.to(archive, transfer)
        case "file" if parts.netloc in ("", "localhost"):
            _copy(Path(urllib.parse.unquote(parts.path)), archive, download)
        case "file":
            raise BadDrafterError(
                f"{download.uri!r} names another machine; use file:///path/to/it.tar."
            )
        case _:
            raise BadDrafterError(
                f"The drafter's address {download.uri!r} cannot be used; give one with https:// or "
                "file://."
            )


def _copy(source: Path, archive: Path, download: Download) -> None:
    """Copy an archive that is on this machine."""
    try:
        if source.stat().st_size > download.max_bytes:
            raise too_large(download.uri, download.max_bytes)
        shutil.copyfile(source, archive)
    except OSError as error:
        raise unreadable(download.uri, error) from error


def _unpack(archive: Path, directory: Path, max_bytes: int) -> None:
    """Write the files of an archive; only plain files below the directory are taken."""
    try:
        with tarfile.open(archive, mode="r:") as tar:
            for member in _plain_members(tar, max_bytes):
                content = tar.extractfile(member)
                assert content is not None  # it is a plain file
                target = directory / PurePosixPath(member.name)
                target.parent.mkdir(parents=True, exist_ok=True)
                with content, target.open("xb") as file:
                    shutil.copyfileobj(content, file, _CHUNK_BYTES)
    except tarfile.TarError as error:
        raise BadDrafterError(
            f"The drafter is no .tar that can be read ({error}); pack it with tar -cf, "
            "uncompressed."
        ) from error
    except (OSError, ValueError) as error:
        raise BadDrafterError(
            f"The drafter cannot be unpacked ({_why(error)}); pack each file of one bundle "
            "once, and see that the device has room."
        ) from error


def _plain_members(tar: tarfile.TarFile, max_bytes: int) -> Iterator[tarfile.TarInfo]:
    """The files of an archive.

    Raises:
        BadDrafterError: it has something else, or too much.
    """
    num_members = num_bytes = 0
    for member in tar:
        num_members += 1
        num_bytes += member.size
        if num_members > _MAX_MEMBERS or num_bytes > max_bytes:
            raise BadDrafterError(
                f"The drafter has more than {_MAX_MEMBERS} files or {max_bytes} bytes; pack only "
                "what belongs to the bundle."
            )
        if member.isdir() and (member.name == "." or is_plain_relative(member.name)):
            continue
        if not member.isreg() or member.issparse() or not is_plain_relative(member.name):
            raise BadDrafterError(
                f"The drafter has the entry {member.name!r}, which is no plain file inside of it; "
                "pack files and folders only."
            )
        yield member


def _why(error: Exception) -> str:
    return str(getattr(error, "strerror", None) or str(error) or type(error).__name__).rstrip(".")
