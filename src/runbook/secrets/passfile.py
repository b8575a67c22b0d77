"""The two files in which libpq looks for a password (PostgreSQL docs, 32.16 and 32.17)."""

import getpass
import re
from collections.abc import Iterator, Mapping
from pathlib import Path

_FIELD = re.compile(r"((?:\\.|[^:\\])*)(?::|$)")


def passwords_of_file(path: Path, parts: Mapping[str, str]) -> Iterator[str]:
    """Yield the passwords of the entries that match a connection's parts.

    libpq takes the first match of each host that it tries; here every match counts. A file that
    cannot be read has none.
    """
    user = parts.get("user") or _account()
    hosts = f"{parts.get('host', '')},{parts.get('hostaddr', '')},localhost".split(",")
    ports = f"{parts.get('port') or '5432'}".split(",")
    database = parts.get("dbname") or user
    for line in _lines(path):
        fields = [re.sub(r"\\(.)", r"\1", text) for text in _FIELD.findall(line)[:5]]
        if line.startswith("#") or len(fields) < 5:
            continue
        wanted = (hosts, ports, [database], [user])
        if all(field == "*" or field in some for field, some in zip(fields, wanted, strict=False)):
            yield fields[4]


def service_settings(service: str, environment: Mapping[str, str]) -> dict[str, str]:
    """Return the settings of a service: of the user's file, else of the system's."""
    if not service:
        return {}
    home = environment.get("HOME") or str(Path("~").expanduser())
    users = environment.get("PGSERVICEFILE") or str(Path(home) / ".pg_service.conf")
    systems = Path(environment.get("PGSYSCONFDIR") or "/etc/postgresql-common") / "pg_service.conf"
    for path in (Path(users), systems):
        found: dict[str, str] = {}
        inside = False
        for line in _lines(path):
            if line.startswith("["):
                inside = line == f"[{service}]"
            elif inside and "=" in line and not line.startswith("#"):
                name, _, value = line.partition("=")
                found[name.strip()] = value.strip()
        if found:
            return found
    return {}


def _lines(path: Path) -> list[str]:
    """Return a file's lines without surrounding blanks."""
    try:
        text = path.read_text("utf-8", errors="surrogateescape")
    except OSError:
        return []
    return [line.strip() for line in text.splitlines()]


def _account() -> str:
    """Return the account's name, which libpq takes for the user."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return ""
