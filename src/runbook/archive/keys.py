"""Keys: Ed25519 pairs by which manifests are signed and known again.

Private keys are PKCS #8 in PEM, as `openssl genpkey -algorithm ed25519` writes them; public keys
are the 32 raw bytes in base64, or SubjectPublicKeyInfo in PEM.
"""

import base64
import binascii
import os
import stat
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from runbook.errors import UsageError

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

VARIABLE = "RUNBOOK_SIGNING_KEY"
"""The environment variable that names the key to sign with: a file, or `env:NAME`."""


@dataclass(frozen=True, kw_only=True)
class SigningKey:
    """A private key; nothing of it is ever shown."""

    public: str
    """Its public key, in base64."""
    _private: "Ed25519PrivateKey" = field(repr=False)

    def sign(self, message: bytes) -> str:
        """Return the signature in base64."""
        return base64.b64encode(self._private.sign(message)).decode()


def signing_key(reference: str | None = None) -> SigningKey | None:
    """Return the key to sign with, or None where none is named.

    `reference` is a file or `env:NAME`, by default what RUNBOOK_SIGNING_KEY says. Raises
    `UsageError` if there is no Ed25519 private key; the message never repeats any of it.
    """
    reference = reference if reference is not None else os.environ.get(VARIABLE)
    if not reference:
        return None
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    pem = _private_text(reference)
    try:
        private = load_pem_private_key(pem, password=None)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        private = None
    if not isinstance(private, Ed25519PrivateKey):
        raise UsageError(
            f"The signing key {reference} is no Ed25519 private key in PEM without a passphrase.",
            "Make one with: runbook keygen FILE",
        )
    return SigningKey(public=_public(private), _private=private)


def _private_text(reference: str) -> bytes:
    """Return the PEM that a reference leads to."""
    if _is_private_key(reference):
        raise UsageError(
            "The signing key is given itself, where its name belongs.",
            "Keep its PEM text in a file or a variable, and name that: FILE or env:NAME.",
        )
    if reference.startswith("env:"):
        text = os.environ.get(reference[4:], "")
        if not text:
            raise UsageError(
                f"The signing key's environment variable {reference[4:]!r} is not set.",
                "Put the PEM text of the private key into it.",
            )
        return text.encode()
    try:
        return Path(reference).expanduser().read_bytes()
    except OSError as error:
        raise UsageError(
            f"The signing key {reference} cannot be read: {error.strerror}.",
            "Name a file with an Ed25519 private key in PEM, or env:NAME.",
        ) from None


def _is_private_key(text: str) -> bool:
    """Return whether a text seems to be a private key, which no message may repeat."""
    return "PRIVATE KEY" in text or _PKCS8 in text


_PKCS8 = "BQYDK2VwBCIEI"
"""What stands before the secret in every Ed25519 private key in PKCS #8, in base64."""


def make_key(path: Path) -> str:
    """Write a new private key (mode 0600) to `path` and its public key to `path` + `.pub`.

    Return the public key in base64. Raises `UsageError` if either file is there already or cannot
    be written.
    """
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    private = Ed25519PrivateKey.generate()
    pem = private.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    public_pem = private.public_key().public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    public_path = path.with_name(f"{path.name}.pub")
    if public_path.exists():
        raise UsageError(f"{public_path} is there already.", "Name another file.")
    _write_new(path, pem, stat.S_IRUSR | stat.S_IWUSR)
    _write_new(public_path, public_pem, 0o644)
    return _public(private)


def _write_new(path: Path, data: bytes, mode: int) -> None:
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    except FileExistsError:
        raise UsageError(f"{path} is there already.", "Name another file.") from None
    except OSError as error:
        raise UsageError(
            f"{path} cannot be written: {error.strerror}.", "Name another file."
        ) from None
    with os.fdopen(descriptor, "wb") as file:
        file.write(data)


def public_key(given: str) -> str:
    """Return a public key in base64; given as that, or as a file with it or with its PEM.

    Raises `UsageError` if it is neither.
    """
    if _is_private_key(given):
        raise UsageError(
            "A private key is given where a public key belongs.",
            "Give the file FILE.pub that `runbook keygen FILE` wrote, and keep FILE secret.",
        )
    path = Path(given).expanduser()
    text = given
    try:
        if path.is_file():
            text = path.read_text("utf-8", errors="replace")
    except OSError as error:
        raise UsageError(
            f"The public key {given[:80]!r} cannot be read: {error.strerror}.",
            "Check the file's name, and that this account may read it.",
        ) from None
    if "-----BEGIN" in text:
        return _public_of_pem(text, given)
    text = text.strip()
    try:
        raw = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raw = b""
    if len(raw) != 32:
        raise UsageError(
            f"{given[:80]!r} is neither an Ed25519 public key nor a file with one.",
            "Give the file FILE.pub that `runbook keygen FILE` wrote, or the base64 it printed.",
        )
    return base64.b64encode(raw).decode()


def _public_of_pem(text: str, given: str) -> str:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
    from cryptography.hazmat.primitives.serialization import load_pem_public_key

    try:
        loaded = load_pem_public_key(text.encode())
    except ValueError:
        loaded = None
    if not isinstance(loaded, Ed25519PublicKey):
        raise UsageError(
            f"{given[:80]!r} holds no Ed25519 public key.",
            "Give the file FILE.pub that `runbook keygen FILE` wrote.",
        )
    return base64.b64encode(loaded.public_bytes_raw()).decode()


def verifies(public: str, signature: str, message: bytes) -> bool:
    """Return whether a signature is of that key over that message; all in base64."""
    from cryptography.exceptions import InvalidSignature
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

    try:
        Ed25519PublicKey.from_public_bytes(_decoded(public)).verify(_decoded(signature), message)
    except (ValueError, InvalidSignature):
        return False
    return True


def _decoded(text: str) -> bytes:
    """Return what base64 says. Raises `ValueError` where another text would say the same: the
    unused bits of the last character could be altered unseen."""
    raw = base64.b64decode(text, validate=True)
    if base64.b64encode(raw).decode() != text:
        raise ValueError("not canonical")
    return raw


def _public(private: "Ed25519PrivateKey") -> str:
    return base64.b64encode(private.public_key().public_bytes_raw()).decode()
