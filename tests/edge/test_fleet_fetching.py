"""What a device takes for a drafter, and what it does not."""

import io
import tarfile
from dataclasses import replace
from pathlib import Path

import pytest
from fleet_bundles import pack, packed_entry, write_bundle

from outrider_common.errors import ModelFileError, OutriderError, UnavailableError
from outrider_edge.fleet.downloading import Transfer
from outrider_edge.fleet.fetching import fetch
from outrider_edge.fleet.rollout import BadDrafterError, Offer
from outrider_models.checksums import sha256_of
from outrider_models.store import Kind, ModelStore

LIMIT = 1 << 20


def an_offer(archive: Path, name: str = "new") -> Offer:
    return Offer(1, name, archive.as_uri(), sha256_of(archive), "")


def fetched(offer: Offer, root: Path, limit: int = LIMIT) -> Path:
    return fetch(offer, ModelStore(root), limit, Transfer())


def leftovers(root: Path) -> list[str]:
    """What a failure has left in the store, but for locks."""
    folder = root / Kind.BUNDLE
    return [path.name for path in folder.iterdir() if path.suffix != ".lock"]


def test_a_good_drafter_is_in_the_store_under_a_name_of_its_content(tmp_path: Path) -> None:
    archive = pack(write_bundle(tmp_path / "bundle"), tmp_path / "bundle.tar")
    offer = an_offer(archive)
    path = fetched(offer, tmp_path / "store")
    assert path == tmp_path / "store" / "bundles" / f"new-{offer.sha256[:12]}"
    assert (path / "model.onnx").read_bytes() == b"graph"
    assert fetched(replace(offer, uri="file:///gone"), tmp_path / "store") == path
    assert leftovers(tmp_path / "store") == [path.name]


def _link(name: str, kind: bytes) -> tarfile.TarInfo:
    entry = tarfile.TarInfo(name)
    entry.type, entry.linkname = kind, "/etc/passwd"
    return entry


@pytest.mark.parametrize(
    "entry",
    [
        tarfile.TarInfo("../outside"),
        tarfile.TarInfo("/absolute"),
        tarfile.TarInfo("a/../../outside"),
        _link("soft", tarfile.SYMTYPE),
        _link("hard", tarfile.LNKTYPE),
        _link("pipe", tarfile.FIFOTYPE),
        _link("device", tarfile.CHRTYPE),
        _link("disk", tarfile.BLKTYPE),
    ],
    ids=lambda entry: entry.name.strip("/"),
)
def test_what_is_no_plain_file_inside_is_refused_by_name(
    tmp_path: Path, entry: tarfile.TarInfo
) -> None:
    archive = packed_entry(tmp_path / "bad.tar", entry)
    with pytest.raises(BadDrafterError, match="no plain file inside of it") as caught:
        fetched(an_offer(archive), tmp_path / "store")
    assert entry.name in str(caught.value)
    assert leftovers(tmp_path / "store") == []
    assert not (tmp_path / "outside").exists()


def test_another_content_than_was_signed_is_refused(tmp_path: Path) -> None:
    archive = pack(write_bundle(tmp_path / "bundle"), tmp_path / "bundle.tar")
    offer = replace(an_offer(archive), sha256="0" * 64)
    with pytest.raises(BadDrafterError, match=f"instead of {'0' * 64}"):
        fetched(offer, tmp_path / "store")
    assert leftovers(tmp_path / "store") == []


def test_a_damaged_bundle_in_a_sound_archive_is_refused(tmp_path: Path) -> None:
    bundle = write_bundle(tmp_path / "bundle")
    (bundle / "model.onnx").write_bytes(b"grapf")
    archive = pack(bundle, tmp_path / "bundle.tar")
    with pytest.raises(ModelFileError, match="does not match its checksum"):
        fetched(an_offer(archive), tmp_path / "store")
    assert leftovers(tmp_path / "store") == []


def test_a_drafter_that_is_too_large_is_refused(tmp_path: Path) -> None:
    archive = pack(write_bundle(tmp_path / "bundle"), tmp_path / "bundle.tar")
    with pytest.raises(BadDrafterError, match="more than 1024 bytes"):
        fetched(an_offer(archive), tmp_path / "store", limit=1024)


def test_an_archive_cannot_claim_more_than_it_may_unpack(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "many.tar", "w") as tar:
        for number in range(1001):
            tar.addfile(tarfile.TarInfo(f"file-{number}"), io.BytesIO())
    with pytest.raises(BadDrafterError, match="more than 1000 files"):
        fetched(an_offer(tmp_path / "many.tar"), tmp_path / "store", limit=1 << 30)


def test_the_same_file_twice_is_refused(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "twice.tar", "w") as tar:
        for _ in range(2):
            tar.addfile(tarfile.TarInfo("model.onnx"), io.BytesIO())
    with pytest.raises(BadDrafterError, match="cannot be unpacked"):
        fetched(an_offer(tmp_path / "twice.tar"), tmp_path / "store")


@pytest.mark.parametrize(
    ("uri", "kind", "says"),
    [
        ("http://example.org/a.tar", BadDrafterError, "https:// or file://"),
        ("ftp://example.org/a.tar", BadDrafterError, "https:// or file://"),
        ("", BadDrafterError, "https:// or file://"),
        ("file://elsewhere/a.tar", BadDrafterError, "names another machine"),
        ("file:///no/such.tar", UnavailableError, "cannot be read"),
        ("https://127.0.0.1:1/a.tar", UnavailableError, "cannot be read"),
        ("https://[bad/a.tar", OutriderError, "cannot be"),
    ],
)
def test_an_address_that_cannot_be_used_is_one_sentence(
    tmp_path: Path, uri: str, kind: type[OutriderError], says: str
) -> None:
    offer = Offer(1, "new", uri, "0" * 64, "")
    with pytest.raises(kind, match=says):
        fetched(offer, tmp_path / "store")


def test_what_is_no_archive_is_refused(tmp_path: Path) -> None:
    (tmp_path / "text.tar").write_bytes(b"this is no archive" * 100)
    with pytest.raises(BadDrafterError, match=r"no \.tar that can be read"):
        fetched(an_offer(tmp_path / "text.tar"), tmp_path / "store")
