"""Finding the secrets that a run knows: in URLs, in the environment, and where libpq would look."""

import ast
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote, urlsplit

import psycopg
from psycopg.conninfo import conninfo_to_dict

from runbook.secrets.passfile import passwords_of_file, service_settings

SECRET_KEYWORDS = (
    "password",
    "sslpassword",
    "oauth_client_secret",
    "scram_client_key",
    "scram_server_key",
)
"""libpq's keywords whose value is secret."""

SIGNING_KEY = "RUNBOOK_SIGNING_KEY"
"""The variable that holds the path of a signing key, or `env:NAME` of a variable with its text."""

_URL = re.compile(r"(?<![A-Za-z0-9+.-])[0-9+.-]*([A-Za-z][A-Za-z0-9+.-]*://[^\s'\"<>]+)")
_LITERAL = re.compile(r"""(?s)'(?:\\.|[^'\\\n])*'|"(?:\\.|[^"\\\n])*\"""")
_SETTING = re.compile(
    rf"(?i)\b(?:{'|'.join(SECRET_KEYWORDS)})\s*=\s*('(?:\\.|[^'\\])*'|[^\s&'\"]+)"
)
_KEY_LINE = 16
"""A PEM text's lines are secret from this length on; its last one may be shorter."""


@dataclass(frozen=True, kw_only=True)
class Known:
    """What a run knows: secrets, and names beside them that are none and must stay readable."""

    secrets: frozenset[str] = frozenset()
    names: frozenset[str] = frozenset()
    """User, host, database, service and the like."""

    def __or__(self, other: "Known") -> "Known":
        return Known(secrets=self.secrets | other.secrets, names=self.names | other.names)


def find(
    values: Iterable[str], environment: Mapping[str, str], sources: Iterable[str] = ()
) -> Known:
    """Return the secrets in values such as URLs, in the environment, and in cells' sources.

    A value is looked at whole, since a password may hold blanks and quotes; of a source only what
    looks like a URL. Files that cannot be read hold nothing for libpq either, so nothing is raised.
    """
    told = [*values, *environment.values()]
    given = [text for text in told if "://" in text or _SETTING.search(text)]
    for source in sources:
        if "://" in source:
            given += _URL.findall(source)
            given += [text for text in _literals(source) if "://" in text]
    known = Known(secrets=frozenset(_environment(environment)))
    for text in given:
        known |= _of_value(text)
    for parts in (_parts(text, environment) for text in ["", *given]):
        known |= Known(
            secrets=frozenset(_looked_up(parts, environment)), names=frozenset(_names(parts))
        )
    return Known(secrets=frozenset(filter(None, known.secrets)), names=known.names)


def holds_password(url: str) -> bool:
    """Return whether a URL or connection string has a password in it; a mistyped one counts."""
    place, _, query = url.partition("?")
    settings = (setting.partition("=") for setting in query.split("&"))
    return (
        bool(re.search(r"//[^/@:]*:[^@]+@", place))
        or ("://" not in url and bool(_SETTING.search(url)))
        or any(value and unquote(name).lower() in SECRET_KEYWORDS for name, _, value in settings)
    )


def _of_value(text: str) -> Known:
    """Return the secrets of a URL or of a connection string, decoded and as written.

    A URL is read more generously than by libpq: where an `@` stands in the password unescaped, the
    part behind it would be shown as the host of an error.
    """
    written: set[str] = set()
    scheme, separator, rest = text.partition("://")
    if separator and re.fullmatch(r"[A-Za-z][A-Za-z0-9+.-]*", scheme.rpartition(" ")[2]):
        for authority in (rest, rest.partition("/")[0]):
            for userinfo in (authority.rpartition("@")[0], authority.partition("@")[0]):
                if "@" in authority and ":" in userinfo:
                    written.add(userinfo.partition(":")[2])
        password = rest.partition("/")[0].rpartition("@")[0].partition(":")[2]
        if "@" in password:
            written.update(password.split("@"))
            tail = re.split(r"[/?]", rest)[0].partition("@")[2]
            written.update((tail, tail.rpartition(":")[0]))
        for setting in rest.partition("?")[2].split("&"):
            name, _, value = setting.partition("=")
            if unquote(name).lower() in SECRET_KEYWORDS:
                written.add(value)
    elif not separator:
        written.update(_unquoted(match) for match in _SETTING.findall(text))
    return Known(secrets=frozenset(written | {unquote(one) for one in written}))


def _literals(source: str) -> Iterator[str]:
    """Yield the text of a source's string literals."""
    for literal in _LITERAL.findall(source):
        try:
            yield str(ast.literal_eval(literal))
        except (SyntaxError, ValueError):
            yield literal[1:-1]


def _unquoted(value: str) -> str:
    """Return a connection string's value without its quotes and escapes."""
    if value.startswith("'"):
        return re.sub(r"\\(.)", r"\1", value[1:-1])
    return value


def _environment(environment: Mapping[str, str]) -> Iterator[str]:
    """Yield what variables hold that are secret as a whole."""
    yield environment.get("PGPASSWORD", "")
    key = environment.get(SIGNING_KEY, "")
    if key.startswith("env:"):
        text = environment.get(key[4:], "")
        lines = [line.strip() for line in text.replace("\\n", "\n").splitlines()]
        yield text
        yield from (n for n in lines if len(n) >= _KEY_LINE and not n.startswith("-----"))


def _parts(text: str, environment: Mapping[str, str]) -> dict[str, str]:
    """Return libpq's keywords of a value, completed by service file and variables as libpq does."""
    parts: dict[str, str] = {}
    url = re.sub(r"^(postgresql)\+\w+://", r"\1://", text)
    try:
        parts = {k: str(v) for k, v in conninfo_to_dict(url).items() if v is not None}
    except psycopg.Error:
        if "://" in text:
            parts = _roughly(text)
    service = parts.get("service") or environment.get("PGSERVICE", "")
    parts = service_settings(service, environment) | parts
    for keyword, variable in (
        ("user", "PGUSER"),
        ("host", "PGHOST"),
        ("hostaddr", "PGHOSTADDR"),
        ("port", "PGPORT"),
        ("dbname", "PGDATABASE"),
        ("passfile", "PGPASSFILE"),
    ):
        if keyword not in parts and environment.get(variable):
            parts[keyword] = environment[variable]
    return parts


def _roughly(url: str) -> dict[str, str]:
    """Return the names in a URL that libpq does not take."""
    try:
        split = urlsplit(url)
        found = {"user": split.username, "host": split.hostname, "dbname": split.path.strip("/")}
    except ValueError:
        return {}
    return {name: text for name, text in found.items() if text and "@" not in url.partition("@")[2]}


def _looked_up(parts: Mapping[str, str], environment: Mapping[str, str]) -> Iterator[str]:
    """Yield the secrets that libpq takes from the service file and the password file."""
    yield from (parts[keyword] for keyword in SECRET_KEYWORDS if keyword in parts)
    default = environment.get("APPDATA") if "APPDATA" in environment else ""
    home = environment.get("HOME") or str(Path("~").expanduser())
    usual = Path(default) / "postgresql" / "pgpass.conf" if default else Path(home) / ".pgpass"
    yield from passwords_of_file(Path(parts.get("passfile") or usual), parts)


def _names(parts: Mapping[str, str]) -> Iterator[str]:
    """Yield what is to stay readable of a connection's parts."""
    for keyword in ("user", "host", "hostaddr", "port", "dbname", "service", "application_name"):
        # A host with an @ in it is the end of a password whose @ was not escaped.
        if parts.get(keyword) and "@" not in parts[keyword]:
            yield parts[keyword]
