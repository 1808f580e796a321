"""Drafters over https: from servers that break off, are silent, lie, or lead elsewhere."""

import asyncio
import threading
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import pytest
from file_server import (
    Deed,
    FileServer,
    announcing,
    another_part,
    breaking_off,
    chunked,
    endless,
    file_server,
    leading_to,
    part,
    refusing,
    shorter_than_it_is,
    silent_after,
    trickling,
    whole,
)
from fleet_bundles import Signer, pack, write_bundle
from fleet_device import QUICK, Factory, a_daemon
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from outrider.v1 import fleet_pb2 as pb
from outrider_common.config import Settings
from outrider_common.errors import ConfigError, OutriderError, UnavailableError
from outrider_common.settings.edge import EdgeSettings
from outrider_common.settings.fleet import FleetSettings
from outrider_edge.fleet.downloading import Patience, Transfer
from outrider_edge.fleet.drafter_desk import DrafterDesk
from outrider_edge.fleet.fetching import fetch, num_bytes_here
from outrider_edge.fleet.memory import FleetMemory
from outrider_edge.fleet.rollout import BadDrafterError, Offer
from outrider_edge.service import cancelled
from outrider_models.checksums import sha256_of
from outrider_models.store import Kind, ModelStore

LIMIT = 1 << 20


@dataclass
class Site:
    """A device's store, and a server with a drafter for it."""

    server: FileServer
    store: ModelStore
    offer: Offer

    def fetch(self, limit: int = LIMIT, **options: object) -> Path:
        asked = {"ca_file": self.server.ca} | options
        return fetch(self.offer, self.store, limit, Transfer(), **asked)  # type: ignore[arg-type]

    @property
    def num_here(self) -> int:
        return num_bytes_here(self.offer, self.store)

    @property
    def left(self) -> list[str]:
        """What is in the store, but for locks and folders that are being filled."""
        folder = self.store.root / Kind.BUNDLE
        return [path.name for path in folder.iterdir() if path.suffix != ".lock"]


class Sites:
    """Makes servers that end with the test."""

    def __init__(self, directory: Path, stack: ExitStack) -> None:
        self.directory = directory
        self.stack = stack
        self.archive = pack(write_bundle(directory / "bundle"), directory / "bundle.tar")

    def __call__(self, *script: Deed) -> Site:
        content = self.archive.read_bytes()
        server = self.stack.enter_context(file_server(self.directory, content, *script))
        offer = Offer(1, "new", server.url, sha256_of(self.archive), "")
        return Site(server, ModelStore(self.directory / "store"), offer)


@pytest.fixture
def a_site(tmp_path: Path) -> Iterator[Sites]:
    with ExitStack() as stack:
        yield Sites(tmp_path, stack)


@pytest.mark.parametrize("deed", [part, whole, chunked])
def test_a_drafter_comes_over_https_and_nothing_else_stays(a_site: Sites, deed: Deed) -> None:
    site = a_site(deed)
    path = site.fetch()
    assert (path / "model.onnx").read_bytes() == b"graph"
    assert site.left == [path.name]
    assert site.server.ranges == [None]


def test_a_download_that_broke_off_goes_on_where_it_was(a_site: Sites) -> None:
    site = a_site(breaking_off(4000), breaking_off(2000), part)
    total = len(site.server.content)
    for num_bytes in (4000, 6000):
        with pytest.raises(UnavailableError, match=f"broke off after {num_bytes} of {total} bytes"):
            site.fetch()
        assert site.num_here == num_bytes
    assert (site.fetch() / "model.onnx").read_bytes() == b"graph"
    assert site.server.ranges == [None, "bytes=4000-", "bytes=6000-"]
    assert len(site.left) == 1


@settings(
    max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(breaks=st.lists(st.integers(0, 5000), max_size=5), last=st.sampled_from([part, whole]))
def test_wherever_it_breaks_off_what_is_unpacked_at_last_is_what_was_signed(
    a_site: Sites, breaks: list[int], last: Deed
) -> None:
    site = a_site(*map(breaking_off, breaks), last)
    site.store = ModelStore(site.store.root / str(len(list(site.store.root.glob("*")))))
    for _ in range(len(breaks) + 1):
        try:
            path = site.fetch()
            break
        except UnavailableError:
            continue
    assert (path / "model.onnx").read_bytes() == b"graph"


def test_a_server_that_knows_no_parts_begins_anew(a_site: Sites) -> None:
    site = a_site(breaking_off(4000), whole)
    with pytest.raises(UnavailableError):
        site.fetch()
    assert (site.fetch() / "model.onnx").read_bytes() == b"graph"


def test_what_came_of_another_file_is_read_anew_in_one_go(a_site: Sites) -> None:
    site = a_site(breaking_off(4000), part)
    right, site.server.content = site.server.content, bytes(len(site.server.content))
    with pytest.raises(UnavailableError):
        site.fetch()
    site.server.content = right
    assert (site.fetch() / "model.onnx").read_bytes() == b"graph"
    assert site.server.ranges == [None, "bytes=4000-", None]


def test_what_is_longer_here_than_there_is_dropped(a_site: Sites) -> None:
    site = a_site(breaking_off(4000), part)
    with pytest.raises(UnavailableError):
        site.fetch()
    right, site.server.content = site.server.content, b"short"
    with pytest.raises(UnavailableError, match="is no part of it"):
        site.fetch()
    assert site.num_here == 0
    site.server.content = right
    assert site.fetch()


def test_another_part_than_was_asked_for_is_not_taken(a_site: Sites) -> None:
    site = a_site(breaking_off(4000), another_part, part)
    for says in ("broke off", "sent another part"):
        with pytest.raises(UnavailableError, match=says):
            site.fetch()
    assert site.fetch()


def test_a_complete_archive_that_was_not_unpacked_is_not_read_again(a_site: Sites) -> None:
    site = a_site(refusing(500))
    with pytest.raises(UnavailableError, match="the server says 500"):
        site.fetch()
    archive = site.store.root / Kind.BUNDLE / f".{site.offer.bundle}.part"
    archive.write_bytes(site.server.content)
    assert site.fetch()


def test_what_is_here_of_another_offer_is_dropped(a_site: Sites) -> None:
    site = a_site(part)
    folder = site.store.root / Kind.BUNDLE
    folder.mkdir(parents=True)
    (folder / ".older-0123.part").write_bytes(b"half")
    path = site.fetch()
    assert site.left == [path.name]


def test_a_length_that_is_too_short_is_a_wrong_checksum(a_site: Sites) -> None:
    site = a_site(shorter_than_it_is)
    with pytest.raises(BadDrafterError, match="has the checksum"):
        site.fetch()
    assert site.left == []


@pytest.mark.parametrize("deed", [announcing(LIMIT + 1), endless])
def test_a_drafter_that_is_too_large_is_refused_and_dropped(a_site: Sites, deed: Deed) -> None:
    site = a_site(deed)
    with pytest.raises(BadDrafterError, match=rf"more than {LIMIT} bytes; raise fleet\.max_bundle"):
        site.fetch()
    assert site.left == []


def test_a_silent_server_is_not_waited_for_and_what_it_sent_is_kept(a_site: Sites) -> None:
    site = a_site(silent_after(4000), part)
    with pytest.raises(UnavailableError, match="the server is silent"):
        site.fetch(patience=Patience(silence_s=0.2))
    assert site.num_here == 4000
    assert site.fetch()


def test_a_server_that_is_far_too_slow_is_not_borne_with(a_site: Sites) -> None:
    site = a_site(trickling)
    with pytest.raises(UnavailableError, match=r"only \d+ bytes came"):
        site.fetch(patience=Patience(window_s=0.2, window_bytes=1000))


def test_a_download_is_given_up_while_the_server_is_silent(a_site: Sites) -> None:
    site = a_site(silent_after(0))
    transfer = Transfer()

    def give_up() -> None:
        site.server.asked.wait()
        transfer.give_up()

    giving_up = threading.Thread(target=give_up)
    giving_up.start()
    patience = Patience(silence_s=3600)
    with pytest.raises(UnavailableError, match="was given up"):
        fetch(site.offer, site.store, LIMIT, transfer, site.server.ca, patience)
    giving_up.join()


@pytest.mark.parametrize("status", [301, 302, 307, 308])
def test_it_follows_a_redirection_to_https(a_site: Sites, status: int) -> None:
    site = a_site(leading_to("/elsewhere.tar", status), part)
    assert site.fetch()
    assert len(site.server.ranges) == 2


@pytest.mark.parametrize("address", ["http://localhost/a.tar", "file:///etc/passwd", "ftp://a/b"])
def test_it_follows_no_redirection_to_anything_else(a_site: Sites, address: str) -> None:
    site = a_site(leading_to(address))
    with pytest.raises(OutriderError, match=rf"{address}(, which is not https|' is not allowed)"):
        site.fetch()
    assert site.num_here == 0


def test_a_redirection_in_a_circle_ends_in_one_sentence(a_site: Sites) -> None:
    site = a_site(leading_to("/drafter.tar"))
    with pytest.raises(UnavailableError, match="the server says 302") as caught:
        site.fetch()
    assert "\n" not in str(caught.value)


def test_a_server_of_an_unknown_authority_is_refused_with_a_remedy(a_site: Sites) -> None:
    site = a_site(part)
    with pytest.raises(UnavailableError, match=r"its certificate is not good: .*fleet\.ca_file"):
        site.fetch(ca_file=None)
    assert site.server.ranges == []


def test_a_certificate_for_another_name_is_refused(a_site: Sites) -> None:
    site = a_site(part)
    port = site.server.url.rpartition(":")[2].partition("/")[0]
    site.offer = Offer(1, "new", f"https://127.0.0.1:{port}/a.tar", site.offer.sha256, "")
    with pytest.raises(UnavailableError, match="its certificate is not good: IP address mismatch"):
        site.fetch()


@pytest.mark.parametrize("content", [None, b"no certificate"])
def test_an_authority_that_cannot_be_read_is_named(
    a_site: Sites, tmp_path: Path, content: bytes | None
) -> None:
    ca_file = tmp_path / "ca.pem"
    if content:
        ca_file.write_bytes(content)
    with pytest.raises(ConfigError, match=rf"fleet\.ca_file {ca_file} cannot be read"):
        a_site(part).fetch(ca_file=ca_file)


class Desk:
    """The drafter desk of a device that trusts a site."""

    def __init__(self, site: Site, directory: Path) -> None:
        self.site = site
        self.signer = Signer(directory)
        self.archive = directory / "bundle.tar"
        write_bundle(site.store.root / "bundles" / "old")
        fleet = FleetSettings(
            broker="mqtt://unused", public_key=self.signer.public_key, ca_file=site.server.ca
        )
        self.settings = Settings(fleet=fleet, edge=EdgeSettings(bundle="old"))
        self.changed = asyncio.Event()

    async def report_of(self, *stages: "pb.RolloutStage") -> pb.ReportedDrafter:
        """How far the device is when it has come to one of these stages."""
        async with a_daemon(self.settings, self.site.store, Factory()) as device:
            memory = FleetMemory(self.site.store.root / "fleet")
            desk = DrafterDesk(
                self.settings.fleet,
                self.site.store,
                device.live,
                device.serving,
                memory,
                self.changed.set,
                QUICK,
            )
            running = asyncio.create_task(desk.run())
            await desk.ask(self.signer.offer(self.archive, uri=self.site.server.url))
            while desk.report().stage not in stages:
                self.changed.clear()
                await self.changed.wait()
            report = desk.report()
            await cancelled([running])
            return report


async def test_a_bad_link_is_gone_on_with_as_long_as_something_comes(
    a_site: Sites, tmp_path: Path
) -> None:
    site = a_site(*[breaking_off(1500)] * 6, part)  # three times as often as is tried in vain
    report = await Desk(site, tmp_path).report_of(
        pb.ROLLOUT_STAGE_MEASURING, pb.ROLLOUT_STAGE_REFUSED
    )
    assert report.stage == pb.ROLLOUT_STAGE_MEASURING
    assert site.server.ranges[-1] == "bytes=9000-"


async def test_a_server_without_the_file_is_asked_a_few_times_only(
    a_site: Sites, tmp_path: Path
) -> None:
    site = a_site(refusing(404))
    report = await Desk(site, tmp_path).report_of(pb.ROLLOUT_STAGE_REFUSED)
    assert "the server says 404 Not Found" in report.reason
    assert len(site.server.ranges) == QUICK.num_downloads


@pytest.mark.timeout(20)
async def test_a_device_that_ends_does_not_wait_for_a_silent_server(
    a_site: Sites, tmp_path: Path
) -> None:
    site = a_site(silent_after(4000))
    report = await Desk(site, tmp_path).report_of(pb.ROLLOUT_STAGE_DOWNLOADING)
    assert report.stage == pb.ROLLOUT_STAGE_DOWNLOADING


def test_every_refusal_is_one_sentence_with_a_remedy(a_site: Sites) -> None:
    for deed in (refusing(403), refusing(503), leading_to("/drafter.tar"), breaking_off(10)):
        with pytest.raises(OutriderError) as caught:
            a_site(deed).fetch()
        said = str(caught.value)
        assert "; see that it is there" in said
        assert said.endswith(".")
        assert "\n" not in said
