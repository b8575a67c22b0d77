"""The manifest: the record of a run, the hash of every file with it, and the seal over both.

A manifest is canonical JSON: two spaces of indent, keys in the order written, UTF-8, one line feed
at the end. Its last two values seal it:

- `seal` is the SHA-256 of the manifest's bytes with `seal` and `signature` null. It shows that a
  byte was altered; whoever alters it on purpose can make it again.
- `signature` is null, or an Ed25519 signature of the manifest's bytes with `signature` null. Only
  the holder of the private key can make it.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from runbook.archive.keys import SigningKey, verifies
from runbook.record import Record

NAME = "manifest.json"
SCHEMA = "runbook.manifest/1"
ALGORITHM = "ed25519"
_SIGNATURE = ["algorithm", "public_key", "value"]


@dataclass(frozen=True, kw_only=True)
class Position:
    """Where a bundle stands in its archive."""

    bundle: str
    """The bundle's name."""
    previous: str | None
    """The SHA-256 of the manifest before it, or None for the first."""


def make_manifest(
    record: Record, files: Mapping[str, bytes], position: Position, key: SigningKey | None
) -> bytes:
    """Return the sealed manifest, signed where there is a key."""
    content: dict[str, Any] = {"schema": SCHEMA, "bundle": position.bundle}
    content |= record.content()
    content["files"] = [
        {"name": name, "bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}
        for name, data in sorted(files.items())
    ]
    content["previous_manifest_sha256"] = position.previous
    return seal(content, key)


def seal(content: Mapping[str, Any], key: SigningKey | None) -> bytes:
    """Return a manifest's bytes with its seal, and with a signature where there is a key."""
    sealed = {**content, "seal": None, "signature": None}
    sealed["seal"] = hashlib.sha256(_bytes(sealed)).hexdigest()
    if key is not None:
        sealed["signature"] = {
            "algorithm": ALGORITHM,
            "public_key": key.public,
            "value": key.sign(_bytes(sealed)),
        }
    return _bytes(sealed)


def moved_manifest(manifest: "Manifest", position: Position, key: SigningKey | None) -> bytes:
    """Return a manifest sealed anew for another place; all else in it, known or not, is kept."""
    place = {"bundle": position.bundle, "previous_manifest_sha256": position.previous}
    return seal({**manifest.content, **place}, key)


@dataclass(frozen=True, kw_only=True)
class Manifest:
    """A manifest as it was found."""

    data: bytes
    content: Mapping[str, Any]

    @property
    def sha256(self) -> str:
        """The hash by which the next manifest names it."""
        return hashlib.sha256(self.data).hexdigest()

    @property
    def previous(self) -> str | None:
        """The hash of the manifest before it."""
        previous = self.content.get("previous_manifest_sha256")
        return previous if isinstance(previous, str) else None

    @property
    def is_sealed(self) -> bool:
        """Whether every byte is as it was sealed."""
        unsealed = {**self.content, "seal": None, "signature": None}
        return self.data == _bytes(self.content) and self.content.get("seal") == (
            hashlib.sha256(_bytes(unsealed)).hexdigest()
        )

    @property
    def signer(self) -> str | None:
        """The public key that the manifest is signed by, or None where it is not signed."""
        signature = self.content.get("signature")
        public = signature.get("public_key") if isinstance(signature, dict) else None
        return public if isinstance(public, str) else None

    @property
    def is_signature_good(self) -> bool:
        """Whether the signature is of the key that it names, over these bytes."""
        signature = self.content.get("signature")
        # Nothing else may stand in it: neither the seal nor the signature covers it.
        if not isinstance(signature, dict) or list(signature) != _SIGNATURE:
            return False
        if signature["algorithm"] != ALGORITHM:
            return False
        message = _bytes({**self.content, "signature": None})
        return verifies(str(signature.get("public_key")), str(signature.get("value")), message)


def read_manifest(data: bytes) -> Manifest | None:
    """Return a manifest of ours, or None where the bytes are none."""
    try:
        content = json.loads(data)
    except (ValueError, RecursionError):
        return None
    if not isinstance(content, dict) or content.get("schema") != SCHEMA:
        return None
    return Manifest(data=data, content=content)


def _bytes(content: Mapping[str, Any]) -> bytes:
    return (json.dumps(content, indent=2, ensure_ascii=False) + "\n").encode(errors="replace")
