"""Brings an offered drafter into the model store: downloads, compares, unpacks and looks at it.

Nothing of it is in the store before all of it is known to be right. Blocks: run it in a thread.
"""

import hashlib
import http.client
import shutil
import tarfile
import threading
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import IO, Final

from outrider_common.errors import InvalidInputError, UnavailableError
from outrider_edge.fleet.rollout import Offer
from outrider_models.bundle import Bundle
from outrider_models.checksums import is_plain_relative
from outrider_models.store import Kind, ModelStore

_TIMEOUT_S: Final = 30.0
_CHUNK_BYTES: Final = 1 << 20
_MAX_MEMBERS: Final = 1000
_SCHEMES: Final = ("https", "file")


class BadDrafterError(InvalidInputError):
    """An offered drafter that this device does not take."""

    reason = "BAD_DRAFTER"


def fetch(offer: Offer, store: ModelStore, max_bytes: int, is_given_up: threading.Event) -> Path:
    """Have the bundle of an offer in the store; one that is there already is looked at again.

    Args:
        offer: its signature has been checked.
        store: where it goes.
        max_bytes: the largest .tar, and the largest bundle, that is taken.
        is_given_up: ends it early.

    Returns:
        The directory of the bundle.

    Raises:
        BadDrafterError: it is not what the offer says, or not what a bundle may be.
        ModelFileError: it is a bundle with a fault.
        UnavailableError: it could not be downloaded; another time it may be.
    """

    def fill(directory: Path) -> None:
        archive = directory.with_name(f"{directory.name}.tar")
        try:
            _download(offer, archive, max_bytes, is_given_up)
            _unpack(archive, directory, max_bytes)
        finally:
            archive.unlink(missing_ok=True)
        Bundle.load(directory, verify=True)

    path = store.install(Kind.BUNDLE, offer.bundle, fill)
    Bundle.load(path, verify=True)
    return path


def _download(offer: Offer, archive: Path, max_bytes: int, is_given_up: threading.Event) -> None:
    digest = hashlib.sha256()
    num_bytes = 0
    try:
        with _opened(offer.uri) as source, archive.open("wb") as target:
            while chunk := source.read(_CHUNK_BYTES):
                num_bytes += len(chunk)
                if num_bytes > max_bytes:
                    raise BadDrafterError(
                        f"The drafter at {offer.uri} has more than {max_bytes} bytes; raise "
                        "fleet.max_bundle_mib on the device if it may."
                    )
                if is_given_up.is_set():
                    raise UnavailableError("The download was given up; offer the drafter again.")
                digest.update(chunk)
                target.write(chunk)
    except (OSError, http.client.HTTPException, ValueError) as error:
        raise UnavailableError(
            f"The drafter at {offer.uri} cannot be read ({_reason(error)}); see that it is there "
            "and can be reached from the device."
        ) from error
    if digest.hexdigest() != offer.sha256:
        raise BadDrafterError(
            f"The drafter at {offer.uri} has the checksum {digest.hexdigest()} instead of "
            f"{offer.sha256}; see that it is the file that was signed."
        )


def _opened(uri: str) -> IO[bytes]:
    """The content behind a URI; certificates are checked."""
    parts = urllib.parse.urlsplit(uri)
    if parts.scheme not in _SCHEMES:
        raise BadDrafterError(
            f"The drafter's address {uri!r} cannot be used; give one with https:// or file://."
        )
    if parts.scheme == "file":
        if parts.netloc not in ("", "localhost"):
            raise BadDrafterError(f"{uri!r} names another machine; use file:///path/to/it.tar.")
        return Path(urllib.parse.unquote(parts.path)).open("rb")
    opener = urllib.request.build_opener(_NoDowngrade)
    content: IO[bytes] = opener.open(uri, timeout=_TIMEOUT_S)
    return content


class _NoDowngrade(urllib.request.HTTPRedirectHandler):
    """Follows redirections to https only."""

    def redirect_request(  # type: ignore[no-untyped-def]
        self, req, fp, code, msg, headers, newurl
    ) -> urllib.request.Request | None:
        """The request to follow with."""
        if not newurl.startswith("https://"):
            raise BadDrafterError(f"{req.full_url} leads to {newurl}, which is not https.")
        return super().redirect_request(req, fp, code, msg, headers, newurl)


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
            f"The drafter cannot be unpacked ({_reason(error)}); pack each file of one bundle "
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


def _reason(error: Exception) -> str:
    reason = getattr(error, "reason", None) or getattr(error, "strerror", None)
    return str(reason or str(error) or type(error).__name__).rstrip(".")
