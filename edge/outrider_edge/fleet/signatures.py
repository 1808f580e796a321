"""Signatures of drafters: Ed25519 (RFC 8032) over revision, name and checksum.

Needs the extra `mqtt` when it is called. Knows nothing of bundles.
"""

import base64
import binascii
import os
from pathlib import Path
from typing import TYPE_CHECKING

from outrider_common.errors import InvalidInputError, MissingExtraError

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey


class SignatureError(InvalidInputError):
    """A drafter that was not signed by the operator of this device."""

    reason = "SIGNATURE"


class KeyFileError(InvalidInputError):
    """A file that should hold a private key, and does not."""

    reason = "KEY_FILE"


def signed_text(revision: int, name: str, sha256: str) -> bytes:
    """What is signed of a drafter; see `DesiredDrafter` in the protocol."""
    return f"outrider drafter\n{revision}\n{name}\n{sha256}\n".encode()


def check_signature(text: bytes, signature: str, public_key: str) -> None:
    """Refuse a text that this key has not signed.

    Args:
        text: see `signed_text`.
        signature: in base64.
        public_key: raw, in base64.

    Raises:
        SignatureError: the signature is not that of the key.
        MissingExtraError: the extra `mqtt` is not installed.
    """
    _require_cryptography()
    from cryptography.exceptions import InvalidSignature
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

    try:
        key = Ed25519PublicKey.from_public_bytes(base64.b64decode(public_key, validate=True))
        key.verify(base64.b64decode(signature, validate=True), text)
    except (InvalidSignature, ValueError, binascii.Error):
        raise SignatureError(
            "The drafter is not signed with the key in fleet.public_key; sign it with the private "
            "half of that key, see 'outrider fleet rollout --key'."
        ) from None


def read_private_key(path: Path) -> "Ed25519PrivateKey":
    """The private key in a PEM file without a password.

    Raises:
        KeyFileError: there is none.
    """
    _require_cryptography()
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    try:
        key = load_pem_private_key(path.read_bytes(), password=None)
    except OSError as error:
        raise KeyFileError(
            f"The key file {path} cannot be read ({error.strerror}); make one with "
            "'outrider fleet key FILE'."
        ) from error
    except (ValueError, TypeError, UnsupportedAlgorithm):
        key = None
    if not isinstance(key, Ed25519PrivateKey):
        raise KeyFileError(
            f"{path} holds no Ed25519 private key in PEM without a password; make one with "
            "'outrider fleet key FILE'."
        )
    return key


def make_private_key(path: Path) -> "Ed25519PrivateKey":
    """Write a new private key to a file that only this user can read.

    Raises:
        KeyFileError: the file is there already, or cannot be written.
    """
    _require_cryptography()
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    key = Ed25519PrivateKey.generate()
    text = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    try:
        with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
            file.write(text)
    except OSError as error:
        raise KeyFileError(f"{path} cannot be written ({error.strerror}); name another.") from error
    return key


def public_key_of(key: "Ed25519PrivateKey") -> str:
    """The public half, raw, in base64: what `fleet.public_key` takes."""
    return base64.b64encode(key.public_key().public_bytes_raw()).decode()


def signature_of(text: bytes, key: "Ed25519PrivateKey") -> str:
    """The signature of a text, in base64."""
    return base64.b64encode(key.sign(text)).decode()


def _require_cryptography() -> None:
    try:
        import cryptography  # noqa: F401 - only whether it is there
    except ImportError:
        raise MissingExtraError(
            "Signatures need the extra mqtt, which is not installed: run pip install "
            "'outrider[mqtt]'."
        ) from None
