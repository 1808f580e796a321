"""Who somebody is, from the certificate and the bearer token that they showed.

Pure: decides, and answers with a caller or an error. Knows nothing of gRPC, and nothing of how much
a caller may use.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

from outrider_cloud.bearer_tokens import id_of, is_token
from outrider_cloud.tenants import Quotas, Tenant, TenantDirectory
from outrider_common.errors import PermissionDeniedError, UnauthenticatedError

_NO_TOKEN: Final = "0" * 64
"""Compared with when there is no such token, so that the answer takes as long."""


@dataclass(frozen=True, slots=True)
class Shown:
    """What a peer showed of itself.

    Attributes:
        token: after `Bearer` in the metadata `authorization`; None without one.
        uris: of its certificate, which an authority of ours has vouched for.
        dns_names: likewise.
    """

    token: str | None = field(default=None, repr=False)
    uris: tuple[str, ...] = ()
    dns_names: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Caller:
    """Somebody who was let in.

    Attributes:
        tenant: its name; empty where nobody is asked for one.
        shown: by what it is known, such as `token 268af9d95337`; for logs.
        quotas: what it may use.
    """

    tenant: str = ""
    shown: str = ""
    quotas: Quotas = field(default_factory=Quotas)


class Authenticator:
    """Says who somebody is, and whether they may use a model.

    Args:
        directory: of tenants, as it is now; None: nobody is kept out, and the first name of a
            certificate, if there has to be one, is the tenant's.
        needs_certificate: whether everybody has to have a certificate.
        clock: seconds since 1970.
    """

    def __init__(
        self,
        directory: Callable[[], TenantDirectory] | None,
        *,
        needs_certificate: bool = False,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._directory = directory
        self._needs_certificate = needs_certificate
        self._clock = clock

    def authenticate(self, shown: Shown, model: str) -> Caller:
        """Who it is.

        Args:
            shown: by the peer.
            model: that it wants to use.

        Raises:
            UnauthenticatedError: nobody known.
            PermissionDeniedError: somebody known who may not use the model.
        """
        if self._directory is None:
            return self._by_certificate_alone(shown) if self._needs_certificate else Caller()
        directory = self._directory()
        name, by = self._find(shown, directory)
        tenant = directory.tenants[name]
        _refuse_model(name, tenant, model)
        return Caller(name, by, tenant)

    def _find(self, shown: Shown, directory: TenantDirectory) -> tuple[str, str]:
        """The tenant's name, and by what it is known."""
        by_certificate = _find_certificate(shown, directory)
        if shown.token is None:
            if by_certificate is None:
                raise UnauthenticatedError(_nobody(shown))
            return by_certificate
        name, by = self._find_token(shown.token, directory)
        if by_certificate is not None and by_certificate[0] != name:
            raise PermissionDeniedError(
                f"The token belongs to the tenant '{name}', the certificate to "
                f"'{by_certificate[0]}'; use edge.token_file and edge.tls_certificate of one."
            )
        return name, by

    def _find_token(self, token: str, directory: TenantDirectory) -> tuple[str, str]:
        token_id = id_of(token) or ""
        name, entry = directory.by_token.get(token_id, ("", None))
        is_right = is_token(token, entry.sha256 if entry else _NO_TOKEN)
        if entry is None or not is_right:
            raise UnauthenticatedError(
                "This verifier does not know the bearer token; put one that it knows into the "
                "file that edge.token_file names."
            )
        if refusal := entry.refusal(self._clock()):
            raise UnauthenticatedError(
                f"The bearer token {token_id} {refusal}; put another one into the file that "
                "edge.token_file names, or set the clocks of both sides."
            )
        return name, f"token {token_id}"

    def _by_certificate_alone(self, shown: Shown) -> Caller:
        names = (*shown.uris, *shown.dns_names)
        if not names:
            raise UnauthenticatedError(
                "The edge's certificate carries neither a URI nor a DNS name to know it by; let "
                "edge.tls_certificate have a subject alternative name."
            )
        return Caller(names[0], f"certificate {names[0]}")


def _find_certificate(shown: Shown, directory: TenantDirectory) -> tuple[str, str] | None:
    for name in (*shown.uris, *shown.dns_names):
        if name in directory.by_certificate:
            return directory.by_certificate[name], f"certificate {name}"
    return None


def _nobody(shown: Shown) -> str:
    names = ", ".join((*shown.uris, *shown.dns_names))
    if names:
        return (
            f"The certificate is made out for {names}, which is no tenant of this verifier; show "
            "another, with edge.tls_certificate, or a bearer token, with edge.token_file."
        )
    return (
        "This verifier wants to know who asks; name a file with a bearer token in edge.token_file, "
        "or a certificate in edge.tls_certificate."
    )


def _refuse_model(name: str, tenant: Tenant, model: str) -> None:
    if tenant.models is not None and model not in tenant.models:
        raise PermissionDeniedError(
            f"The tenant '{name}' may not use '{model}'; ask whoever runs the verifier to add it "
            "to the tenant's models."
        )
