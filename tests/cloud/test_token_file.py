"""New tokens in a tenants file: added, never shown, and nothing else touched."""

from datetime import UTC, datetime
from pathlib import Path

import pytest

from outrider_cloud.bearer_tokens import is_token
from outrider_cloud.tenants import TenantDirectory
from outrider_cloud.token_file import add_token
from outrider_common.errors import ConfigError, InvalidInputError

WHEN = datetime(2027, 1, 2, 3, 4, 5, tzinfo=UTC)


def test_a_new_file_holds_the_hash_and_only_its_owner_may_read_it(tmp_path: Path) -> None:
    path = tmp_path / "tenants.toml"
    token = add_token(path, "acme", expires=WHEN)
    assert token.text not in path.read_text()
    assert token.text[-43:] not in path.read_text()
    assert path.stat().st_mode & 0o777 == 0o600
    name, entry = TenantDirectory.load(path).by_token[token.token_id]
    assert name == "acme"
    assert is_token(token.text, entry.sha256)
    assert (entry.not_before, entry.expires) == (None, WHEN)


def test_what_stands_in_the_file_stays(tmp_path: Path) -> None:
    path = tmp_path / "tenants.toml"
    path.write_text("# Ours.\n[tenants.acme]\nmax_sessions = 3  # enough\n[tenants.other]")
    path.chmod(0o640)
    tokens = [add_token(path, name) for name in ("acme", "other", "acme", "new.one")]
    assert path.read_text().startswith("# Ours.\n[tenants.acme]\nmax_sessions = 3  # enough\n")
    assert path.stat().st_mode & 0o777 == 0o640
    directory = TenantDirectory.load(path)
    assert directory.tenants["acme"].max_sessions == 3
    owners = [directory.by_token[token.token_id][0] for token in tokens]
    assert owners == ["acme", "other", "acme", "new.one"]
    assert [file.name for file in tmp_path.iterdir()] == ["tenants.toml"]


@pytest.mark.parametrize("name", ["", "a b", "-a", "a" * 65, 'a"b', "a\n"])
def test_a_tenant_that_cannot_be_called_so_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(InvalidInputError, match="cannot be called so"):
        add_token(tmp_path / "tenants.toml", name)
    assert not any(tmp_path.iterdir())


def test_a_file_that_is_no_tenants_file_stays_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "pyproject.toml"
    path.write_text("[project]\n")
    with pytest.raises(ConfigError, match="project"):
        add_token(path, "acme")
    assert path.read_text() == "[project]\n"


def test_a_directory_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(InvalidInputError, match="none"):
        add_token(tmp_path / "none" / "tenants.toml", "acme")
