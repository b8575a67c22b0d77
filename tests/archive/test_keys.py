"""Keys are made once, read from where they are named, and never shown."""

import base64
import os
import subprocess
from pathlib import Path

import pytest

from runbook.archive.keys import VARIABLE, make_key, public_key, signing_key, verifies
from runbook.errors import UsageError
from tests.archive.archives import key_pair


def test_a_signature_is_of_its_key_and_message_alone(tmp_path: Path) -> None:
    key, public = key_pair(tmp_path)
    _, other = key_pair(tmp_path, "other")
    signature = key.sign(b"message")
    assert verifies(public, signature, b"message")
    assert not verifies(public, signature, b"messagf")
    assert not verifies(other, signature, b"message")
    for broken in ("", "?", signature[:-1], signature + "=", "\N{SNOWMAN}"):
        assert not verifies(public, broken, b"message")
        assert not verifies(broken, signature, b"message")


def test_the_private_file_is_for_its_owner_alone_and_never_overwritten(tmp_path: Path) -> None:
    make_key(tmp_path / "key")
    before = (tmp_path / "key").read_bytes()
    assert (tmp_path / "key").stat().st_mode & 0o777 == 0o600
    with pytest.raises(UsageError, match="is there already"):
        make_key(tmp_path / "key")
    (tmp_path / "key.pub").unlink()
    with pytest.raises(UsageError, match="is there already"):
        make_key(tmp_path / "key")
    assert (tmp_path / "key").read_bytes() == before
    with pytest.raises(UsageError, match="cannot be written"):
        make_key(tmp_path / "nowhere" / "key")


def test_a_key_comes_from_a_file_or_a_variable(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    public = make_key(tmp_path / "key")
    assert signing_key() is None
    for reference in (str(tmp_path / "key"), "env:PEM"):
        monkeypatch.setenv("PEM", (tmp_path / "key").read_text())
        monkeypatch.setenv(VARIABLE, reference)
        found = signing_key()
        assert found is not None and found.public == public


def test_a_key_of_openssl_signs_as_well(tmp_path: Path) -> None:
    if not Path("/usr/bin/openssl").exists():
        pytest.skip("openssl is not installed")
    arguments = ["openssl", "genpkey", "-algorithm", "ed25519", "-out", str(tmp_path / "key")]
    subprocess.run(arguments, check=True)
    found = signing_key(str(tmp_path / "key"))
    assert found is not None and verifies(found.public, found.sign(b"m"), b"m")


def test_what_is_no_key_is_refused_and_never_repeated(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_key(tmp_path / "key")
    pem = (tmp_path / "key").read_text()
    (tmp_path / "half").write_text(pem[: len(pem) // 2])
    (tmp_path / "public").write_text((tmp_path / "key.pub").read_text())
    monkeypatch.setenv("EMPTY", "")
    body = pem.splitlines()[1]
    references = ["half", "public", "nowhere", "env:EMPTY", "env:NOWHERE", pem, body]
    for reference in references:
        is_whole = reference.startswith("env:") or reference in (pem, body)
        named = reference if is_whole else str(tmp_path / reference)
        with pytest.raises(UsageError) as raised:
            signing_key(named)
        assert body[:20] not in str(raised.value) and "Traceback" not in str(raised.value)


def test_a_public_key_is_taken_as_file_pem_or_base64(tmp_path: Path) -> None:
    public = make_key(tmp_path / "key")
    (tmp_path / "raw").write_text(public + "\n")
    for given in (public, str(tmp_path / "key.pub"), str(tmp_path / "raw")):
        assert public_key(given) == public
    private = (tmp_path / "key").read_text()
    for secret in (private, private.splitlines()[1]):
        with pytest.raises(UsageError) as raised:
            public_key(secret)
        assert private.splitlines()[1][-20:] not in str(raised.value)
    for wrong in ("", "x", base64.b64encode(os.urandom(31)).decode(), str(tmp_path / "key")):
        with pytest.raises(UsageError):
            public_key(wrong)
