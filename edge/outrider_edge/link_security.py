"""What an edge shows of itself, and whom it believes: read from the files that the settings name.

Knows nothing of channels.
"""

import ipaddress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from outrider_common.errors import ConfigError
from outrider_common.settings.edge import EdgeSettings
from outrider_common.tls_files import Presenter, TlsFiles, TlsMaterial, read_tls_files
from outrider_edge.verifier_addresses import DNS, host_and_port, split_addresses

_MAX_TOKEN_BYTES: Final = 4096


@dataclass(frozen=True, slots=True)
class Credentials:
    """What the files hold now.

    Attributes:
        tls: certificates and a key; None speaks plain text.
        token: shown with every call; None shows none.
    """

    tls: TlsMaterial | None = None
    token: str | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True)
class LinkSecurity:
    """Where everything is.

    Attributes:
        files: of TLS; None speaks plain text.
        server_name: that the verifier's certificate must have; None: the one in the address.
        token_file: holds the bearer token; None: there is none.
    """

    files: TlsFiles | None = None
    server_name: str | None = None
    token_file: Path | None = None

    @classmethod
    def of(cls, settings: EdgeSettings) -> "LinkSecurity":
        """What the settings say."""
        files = TlsFiles(
            section="edge",
            presenter=Presenter.CLIENT,
            certificate=settings.tls_certificate,
            key=settings.tls_key,
            authorities=settings.tls_ca,
            authorities_setting="tls_ca",
        )
        speaks_tls = settings.tls or bool(files.paths)
        name = settings.tls_server_name or _name_in_dns(settings.verifier)
        return cls(files if speaks_tls else None, name, settings.token_file)

    @property
    def paths(self) -> tuple[Path, ...]:
        """All files."""
        of_tls = self.files.paths if self.files else ()
        return (*of_tls, self.token_file) if self.token_file else of_tls

    def read(self) -> Credentials:
        """Read all files.

        Raises:
            ConfigError: one cannot be used.
        """
        return Credentials(
            read_tls_files(self.files) if self.files else None,
            _read_token(self.token_file) if self.token_file else None,
        )

    def refuse_exposure(self, address: str) -> None:
        """Refuse to show a token to whoever listens on the way.

        Args:
            address: host:port of the verifier.

        Raises:
            ConfigError: it would leave this machine in plain text.
        """
        if self.token_file and self.files is None and not is_loopback(address):
            raise ConfigError(
                f"edge.token_file is set, but {address} is another machine and there is no TLS: "
                "the token would travel in plain text; set edge.tls_ca or edge.tls, or do not set "
                "edge.token_file."
            )


NO_SECURITY: Final = LinkSecurity()
"""Plain text, and nothing to show."""


def is_loopback(address: str) -> bool:
    """Whether host:port surely is this machine: `localhost`, or a loopback address in numbers."""
    host, _ = host_and_port(address)
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _name_in_dns(verifier: str) -> str | None:
    """The name whose addresses are the verifiers: their certificates have it, not the addresses."""
    names = [part for part in split_addresses(verifier) if part.startswith(DNS)]
    return host_and_port(names[0])[0] if names else None


def _read_token(path: Path) -> str:
    try:
        text = path.read_bytes()[: _MAX_TOKEN_BYTES + 1].decode("ascii").strip()
    except OSError as error:
        raise ConfigError(
            f"edge.token_file is {path}, which cannot be read ({error.strerror}); put the token "
            "that 'outrider verifier token new' prints into a file that can be."
        ) from error
    except UnicodeDecodeError:
        text = ""
    if not text or len(text) > _MAX_TOKEN_BYTES or not text.isprintable() or " " in text:
        raise ConfigError(
            f"edge.token_file is {path}, which does not hold one token; put the one that 'outrider "
            "verifier token new' prints into it, and nothing else."
        )
    return text
