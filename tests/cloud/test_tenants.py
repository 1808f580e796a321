"""The tenants file: what it says, and what is wrong with it in one sentence."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from outrider_cloud.tenants import TenantDirectory, TokenEntry
from outrider_common.errors import ConfigError

HASH = "0" * 64
TOKEN = f'id = "0123456789ab"\nsha256 = "{HASH}"\n'

WHOLE = f"""
[tenants.acme]
models = ["smollm2-135m"]
certificates = ["spiffe://example.org/acme", "acme.example"]
max_sessions = 8
sessions_per_s = 2.5
rows_per_s = 500
max_held_tokens = 20000

[[tenants.acme.tokens]]
{TOKEN}
not_before = 2026-01-01T00:00:00Z
expires = 2026-02-01T00:00:00+01:00

[tenants.other]
"""


def test_a_file_says_who_has_what() -> None:
    directory = TenantDirectory.parse(WHOLE, "file")
    acme = directory.tenants["acme"]
    assert acme.models == ["smollm2-135m"]
    assert (acme.max_sessions, acme.sessions_per_s) == (8, 2.5)
    assert (acme.rows_per_s, acme.max_held_tokens) == (500, 20000)
    assert directory.by_token["0123456789ab"] == ("acme", acme.tokens[0])
    assert directory.by_certificate["acme.example"] == "acme"
    assert directory.tenants["other"].models is None


def test_a_token_is_good_between_its_times() -> None:
    begins, ends = datetime(2026, 1, 1, tzinfo=UTC), datetime(2026, 2, 1, tzinfo=UTC)
    entry = TokenEntry(id="0" * 12, sha256=HASH, not_before=begins, expires=ends)

    def refused(moment: datetime) -> bool:
        return entry.refusal(moment.timestamp()) is not None

    second = timedelta(seconds=1)
    assert refused(begins - second)
    assert not refused(begins)
    assert not refused(ends - second)
    assert refused(ends)


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("[tenants", "not valid TOML"),
        ("", "tenants: Field required"),
        ("[tenants.acme]\nmax_session = 1", "tenants.acme.max_session"),
        ("[tenants.acme]\nmax_sessions = 0", "max_sessions"),
        ("[tenants.acme]\nmax_sessions = '8'", "max_sessions"),
        ("[tenants.acme]\nrows_per_s = nan", "rows_per_s"),
        ("[tenants.acme]\nrows_per_s = -1", "rows_per_s"),
        ("[tenants.'a b']", "tenants.a b"),
        ("[tenants.'']", "tenants."),
        (f"[[tenants.a.tokens]]\nid = 'x'\nsha256 = '{HASH}'", "tokens.0.id"),
        ("[[tenants.a.tokens]]\nid = '0123456789ab'\nsha256 = 'x'", "tokens.0.sha256"),
        (f"[[tenants.a.tokens]]\n{TOKEN}expires = 2026-01-01T00:00:00", "tokens.0.expires"),
        (f"[[tenants.a.tokens]]\n{TOKEN}[[tenants.b.tokens]]\n{TOKEN}", "'0123456789ab' twice"),
        ("[tenants.a]\ncertificates=['x']\n[tenants.b]\ncertificates=['x']", "'x' twice"),
    ],
)
def test_a_mistake_is_one_sentence_that_names_it(text: str, fault: str) -> None:
    with pytest.raises(ConfigError) as caught:
        TenantDirectory.parse(text, "tenants.toml")
    assert fault in str(caught.value)
    assert "tenants.toml" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"none\.toml cannot be read"):
        TenantDirectory.load(tmp_path / "none.toml")
    latin = tmp_path / "latin.toml"
    latin.write_bytes(b"# \xe9\n[tenants.a]")
    with pytest.raises(ConfigError, match="not UTF-8"):
        TenantDirectory.load(latin)
