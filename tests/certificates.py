"""Authorities and certificates, made for tests: real ones, of any time and any name."""

import datetime
import ipaddress
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

DAY = datetime.timedelta(days=1)
BOTH = (ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH)


@dataclass(frozen=True)
class Pair:
    """A certificate and its key, in PEM files."""

    certificate: Path
    key: Path


class Authority:
    """Makes certificates; its own is `ca`. One below another adds its own to what it issues."""

    def __init__(self, directory: Path, name: str = "ca", above: "Authority | None" = None) -> None:
        self.directory = directory
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        issuer = above or self
        usage = x509.BasicConstraints(ca=True, path_length=None)
        certificate = (
            _begun(self._name, issuer._name, self._key, -DAY, 30 * DAY)
            .add_extension(usage, critical=True)
            .sign(issuer._key, hashes.SHA256())
        )
        self.ca = directory / f"{name}.pem"
        self.ca.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
        self._chain = self.ca.read_bytes() if above else b""

    def issue(
        self,
        name: str,
        dns: Sequence[str] = (),
        uris: Sequence[str] = (),
        addresses: Sequence[str] = (),
        begins: datetime.timedelta = -DAY,
        ends: datetime.timedelta = 10 * DAY,
        usages: Sequence[x509.ObjectIdentifier] = BOTH,
    ) -> Pair:
        """A pair in files called `name`; those that are there are replaced."""
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        names: list[x509.GeneralName] = [x509.DNSName(one) for one in dns]
        names += [x509.UniformResourceIdentifier(one) for one in uris]
        names += [x509.IPAddress(ipaddress.ip_address(one)) for one in addresses]
        builder = _begun(subject, self._name, key, begins, ends).add_extension(
            x509.ExtendedKeyUsage(list(usages)), critical=False
        )
        if names:
            builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
        certificate = builder.sign(self._key, hashes.SHA256())
        pair = Pair(self.directory / f"{name}.pem", self.directory / f"{name}.key")
        own = certificate.public_bytes(serialization.Encoding.PEM)
        replace(pair.certificate, own + self._chain)
        replace(pair.key, key_pem(key))
        return pair


def key_pem(key: ec.EllipticCurvePrivateKey, password: bytes | None = None) -> bytes:
    """A key in PEM format, encrypted if there is a password."""
    encryption: serialization.KeySerializationEncryption = serialization.NoEncryption()
    if password is not None:
        encryption = serialization.BestAvailableEncryption(password)
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, encryption
    )


def replace(path: Path, content: bytes) -> None:
    """Put a new file in the place of another, at once, as those do who rotate certificates."""
    draft = path.with_name(f"{path.name}.new")
    draft.write_bytes(content)
    draft.replace(path)


def _begun(
    subject: x509.Name,
    issuer: x509.Name,
    key: ec.EllipticCurvePrivateKey,
    begins: datetime.timedelta,
    ends: datetime.timedelta,
) -> x509.CertificateBuilder:
    now = datetime.datetime.now(datetime.UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now + begins)
        .not_valid_after(now + ends)
    )
