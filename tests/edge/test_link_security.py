"""What an edge shows: read from its files, refused where others could listen."""

from pathlib import Path

import pytest
from certificates import Authority

from outrider_common.errors import ConfigError
from outrider_common.settings.edge import EdgeSettings
from outrider_edge.link_security import LinkSecurity, is_loopback


@pytest.fixture
def token_file(tmp_path: Path) -> Path:
    file = tmp_path / "token"
    file.write_text("outrider_abc\n")
    return file


def test_nothing_set_is_plain_text_and_nothing_shown() -> None:
    security = LinkSecurity.of(EdgeSettings())
    assert security.files is None
    credentials = security.read()
    assert (credentials.tls, credentials.token) == (None, None)


def test_any_setting_of_tls_turns_it_on(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    pair = authority.issue("edge")
    for settings in (
        EdgeSettings(tls=True),
        EdgeSettings(tls_ca=authority.ca),
        EdgeSettings(tls_certificate=pair.certificate, tls_key=pair.key),
    ):
        assert LinkSecurity.of(settings).read().tls is not None


def test_a_token_is_read_without_what_surrounds_it_and_never_printed(token_file: Path) -> None:
    credentials = LinkSecurity(token_file=token_file).read()
    assert credentials.token == "outrider_abc"
    assert "outrider_abc" not in repr(credentials)


@pytest.mark.parametrize(
    "content", [b"", b" \n", b"two tokens", b"a\nb", b"\xff\xfe", b"x" * 5000, b"a\x00b"]
)
def test_a_file_that_holds_no_token_is_named(token_file: Path, content: bytes) -> None:
    token_file.write_bytes(content)
    with pytest.raises(ConfigError, match="does not hold one token") as caught:
        LinkSecurity(token_file=token_file).read()
    assert str(token_file) in str(caught.value)
    assert "two tokens" not in str(caught.value)


def test_a_token_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"none, which cannot be read"):
        LinkSecurity(token_file=tmp_path / "none").read()


@pytest.mark.parametrize("address", ["192.0.2.1:7411", "verifier.example:7411", "[2001:db8::1]:1"])
def test_a_token_never_travels_in_plain_text(token_file: Path, address: str) -> None:
    with pytest.raises(ConfigError, match="plain text") as caught:
        LinkSecurity.of(EdgeSettings(token_file=token_file)).refuse_exposure(address)
    assert address in str(caught.value)
    LinkSecurity.of(EdgeSettings(token_file=token_file, tls=True)).refuse_exposure(address)
    LinkSecurity.of(EdgeSettings()).refuse_exposure(address)


@pytest.mark.parametrize("address", ["127.0.0.1:7411", "localhost:1", "[::1]:1", "127.9.9.9:1"])
def test_this_machine_may_see_a_token(token_file: Path, address: str) -> None:
    LinkSecurity.of(EdgeSettings(token_file=token_file)).refuse_exposure(address)


def test_a_name_that_only_looks_like_this_machine_is_another() -> None:
    for address in ("localhost.example:1", "127.0.0.1.example:1", "0.0.0.0:1", ":1", "1"):
        assert not is_loopback(address)
