"""Writes a new bearer token into a tenants file.

What stands in the file already stays as it is, comments included. Knows nothing of what tenants may
do.
"""

import re
from datetime import datetime
from pathlib import Path
from typing import Final

from outrider_cloud.bearer_tokens import NewToken, make_token
from outrider_cloud.tenants import TENANT_NAME, TenantDirectory
from outrider_common.errors import ConfigError, InvalidInputError

_OWNER_ONLY: Final = 0o600


def add_token(
    path: Path, tenant: str, *, not_before: datetime | None = None, expires: datetime | None = None
) -> NewToken:
    """Make a token and keep its hash in a file, which is made if it is not there.

    Args:
        path: of the tenants file.
        tenant: whose token it is; a new one may use everything.
        not_before: since when it is good; None: at once.
        expires: until when it is; None: for ever.

    Raises:
        ConfigError: the file is no tenants file.
        InvalidInputError: the name is none, or the file cannot be written.
    """
    if not re.fullmatch(TENANT_NAME, tenant):
        raise InvalidInputError(
            f"The tenant '{tenant}' cannot be called so; use up to 64 letters, digits, '.', '_' "
            "and '-', a letter or digit first."
        )
    try:
        before = path.read_text(encoding="utf-8") if path.exists() else ""
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"The tenants file {path} cannot be read ({error}).") from error
    token = make_token()
    text = _with_table(before, _table(token, tenant, not_before, expires))
    TenantDirectory.parse(text, str(path))
    _replace(path, text)
    return token


def _table(
    token: NewToken, tenant: str, not_before: datetime | None, expires: datetime | None
) -> str:
    times = {"not_before": not_before, "expires": expires}
    lines = [
        f'[[tenants."{tenant}".tokens]]',
        f'id = "{token.token_id}"',
        f'sha256 = "{token.sha256}"',
        *(f"{name} = {time.isoformat(timespec='seconds')}" for name, time in times.items() if time),
    ]
    return "\n".join(lines) + "\n"


def _with_table(text: str, table: str) -> str:
    return f"{text.rstrip()}\n\n{table}" if text.strip() else table


def _replace(path: Path, text: str) -> None:
    """Write a file so that whoever reads it sees all of the old one or all of the new one."""
    mode = path.stat().st_mode & 0o777 if path.exists() else _OWNER_ONLY
    draft = path.with_name(f".{path.name}.new")
    try:
        draft.touch(_OWNER_ONLY)
        draft.write_text(text, encoding="utf-8")
        draft.chmod(mode)
        draft.replace(path)
    except OSError as error:
        draft.unlink(missing_ok=True)
        raise InvalidInputError(
            f"{path} cannot be written ({error.strerror}); give --file a file in a directory that "
            "exists and may be written to."
        ) from error
