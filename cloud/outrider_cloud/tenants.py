"""Who may use the verifier: a TOML file of tenants, each with its names, its models and its quotas.

Reads and checks the file. Knows nothing of connections: `authentication` asks it who somebody is.
"""

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Final

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, ValidationError

from outrider_common.errors import ConfigError
from outrider_common.validation import first_problem

TENANT_NAME: Final = r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$"
"""What a tenant may be called: the name stands in logs and metrics."""

_Name = Annotated[str, Field(pattern=TENANT_NAME)]
_Count = Annotated[int, Field(ge=1)]
_Rate = Annotated[float, Field(gt=0, allow_inf_nan=False)]


class _Entry(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class TokenEntry(_Entry):
    """What is kept of a bearer token.

    Attributes:
        id: its name, as it carries it.
        sha256: of the whole token.
        not_before: since when it is good.
        expires: until when it is.
    """

    id: str = Field(pattern=r"^[0-9a-f]{12}$")
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")
    not_before: AwareDatetime | None = None
    expires: AwareDatetime | None = None

    def refusal(self, now: float) -> str | None:
        """Why it is no good now, as the end of a sentence; None if it is."""
        moment = datetime.fromtimestamp(now, UTC)
        if self.not_before is not None and moment < self.not_before:
            return f"is good only from {self.not_before:%Y-%m-%d %H:%M %Z} on"
        if self.expires is not None and moment >= self.expires:
            return f"expired {self.expires:%Y-%m-%d %H:%M %Z}"
        return None


class Quotas(_Entry):
    """What a tenant may use; None: as much as there is.

    Attributes:
        max_sessions: at the same time.
        sessions_per_s: that it opens.
        rows_per_s: of forward passes.
        max_held_tokens: that all its sessions may come to hold in the KV cache.
    """

    max_sessions: _Count | None = None
    sessions_per_s: _Rate | None = None
    rows_per_s: _Rate | None = None
    max_held_tokens: _Count | None = None


class Tenant(Quotas):
    """One tenant, as the file has it.

    Attributes:
        models: that it may use; None: all.
        certificates: names, each a DNS name or a URI, by which its certificates are known.
        tokens: several at a time, so that one can take over from another.
    """

    models: list[str] | None = None
    certificates: list[str] = []
    tokens: list[TokenEntry] = []


class _File(_Entry):
    tenants: dict[_Name, Tenant]


@dataclass(frozen=True, slots=True)
class TenantDirectory:
    """Finds tenants.

    Attributes:
        tenants: by name.
        by_token: name of the tenant and entry of each token, by the token's id.
        by_certificate: name of the tenant, by each name in its certificates.
    """

    tenants: Mapping[str, Tenant]
    by_token: Mapping[str, tuple[str, TokenEntry]]
    by_certificate: Mapping[str, str]

    @classmethod
    def load(cls, path: Path) -> "TenantDirectory":
        """Read a file.

        Raises:
            ConfigError: it cannot be read, or means nothing, or two things.
        """
        try:
            return cls.parse(path.read_text(encoding="utf-8"), str(path))
        except OSError as error:
            raise ConfigError(
                f"The tenants file {path} cannot be read ({error.strerror}); name one that can be "
                "with verifier.tenants, or make one with 'outrider verifier token new'."
            ) from error
        except UnicodeDecodeError as error:
            raise ConfigError(f"The tenants file {path} is not UTF-8; save it as such.") from error

    @classmethod
    def parse(cls, text: str, origin: str) -> "TenantDirectory":
        """Read what stands in a file.

        Args:
            text: TOML.
            origin: what the file is called, for sentences.

        Raises:
            ConfigError: it means nothing, or two things.
        """
        try:
            tenants = _File.model_validate(tomllib.loads(text)).tenants
        except tomllib.TOMLDecodeError as error:
            raise ConfigError(f"The tenants file {origin} is not valid TOML: {error}.") from error
        except ValidationError as error:
            raise ConfigError(
                f"The tenants file {origin} has a mistake at {first_problem(error)}; "
                "docs/security.md shows what may stand there."
            ) from error
        by_token: dict[str, tuple[str, TokenEntry]] = {}
        by_certificate: dict[str, str] = {}
        for name, tenant in tenants.items():
            for token in tenant.tokens:
                _refuse_twice(by_token.get(token.id), f"token '{token.id}'", origin)
                by_token[token.id] = name, token
            for certificate in tenant.certificates:
                _refuse_twice(by_certificate.get(certificate), f"'{certificate}'", origin)
                by_certificate[certificate] = name
        return cls(tenants, by_token, by_certificate)


def _refuse_twice(before: object, what: str, origin: str) -> None:
    if before is not None:
        raise ConfigError(
            f"The tenants file {origin} names {what} twice; let each belong to one tenant, once."
        )
