"""The database URL: its forms, what may be shown of it, and connecting.

The password exists in `Target.conninfo` alone; everything that is shown, logged or archived comes
from `Target.display`.
"""

import contextlib
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote, unquote, urlsplit, urlunsplit

import psycopg
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from runbook.errors import ConnectionRefused, UsageError
from runbook.trust.session import Session, open_session

FORMS = (
    "Use postgresql://user@host/database, env:NAME for a URL in an environment variable, "
    "or embedded:NAME; env:NAME/DATABASE and embedded:NAME/DATABASE mean another database there."
)

_SHOWN = ("user", "host", "hostaddr", "port", "dbname", "service")
_EMBEDDED = re.compile(r"embedded:(?P<name>[A-Za-z0-9_-]{1,40})(?:/(?P<database>.+))?")
_ENV = re.compile(r"env:(?P<name>[A-Za-z_][A-Za-z0-9_]*)(?:/(?P<database>.+))?")

CONNECT_TIMEOUT_S = 10


def is_reference(url: str) -> bool:
    """Return whether a URL only points elsewhere, and so holds nothing secret."""
    return bool(_EMBEDDED.fullmatch(url) or _ENV.fullmatch(url))


def in_database(reference: str, name: str) -> str:
    """Return the URL of another database on the server that a database URL leads to."""
    quoted = quote(name, safe="")
    if is_reference(reference):
        return f"{reference.partition('/')[0]}/{quoted}"
    return urlunsplit(urlsplit(reference)._replace(path=f"/{quoted}"))


ARCHIVING = "RUNBOOK_ARCHIVING"
"""The environment variable that tells a kernel that what it leaves behind will be archived."""

HIDDEN_URL = "RUNBOOK_DATABASE_URL"
"""The environment variable by which a URL reaches the kernel without standing in the notebook."""


@dataclass(frozen=True, kw_only=True)
class Target:
    """A database to connect to."""

    reference: str
    """As the user gave it, with any password replaced: `env:DATABASE_URL` stays as it is."""
    display: str
    """Where it leads to, without any secret."""
    conninfo: str = field(repr=False)
    """For libpq. May hold a password."""


def resolve(reference: str, environment: Mapping[str, str] = os.environ) -> Target:
    """Return the target that a database URL means.

    `embedded:NAME` starts that server and keeps it up until this process ends.
    Raises `UsageError` where the URL makes no sense; the message never repeats a secret.
    """
    url, shown, database = reference, "", None
    if reference.startswith("env:"):
        named = _ENV.fullmatch(reference)
        if not named:
            # It is not repeated: whoever writes env:postgresql://… writes a password, too.
            raise UsageError("What follows 'env:' is no name of an environment variable.", FORMS)
        name, database = named["name"], named["database"]
        shown = "" if name == HIDDEN_URL else reference
        url = environment.get(name, "")
        if not url:
            raise UsageError(
                f"The environment variable {name!r} that the database URL names is "
                f"{'empty' if name in environment else 'not set'}.",
                f"Set it: export {name or 'NAME'}=postgresql://user@host/database",
            )
        if database and url.startswith("embedded:"):
            url = in_database(url, unquote(database))
    if url.startswith("embedded:"):
        return _embedded(url, shown)
    parts = _parse(url, shown or "The database URL")
    if database:
        parts["dbname"] = unquote(database)
    display = _display(parts)
    return Target(reference=shown or display, display=display, conninfo=make_conninfo("", **parts))


def _embedded(url: str, shown: str) -> Target:
    """Return a database of an embedded server, which runs from now on."""
    named = _EMBEDDED.fullmatch(url)
    if not named:
        raise UsageError("What follows 'embedded:' is no name of a server.", FORMS)
    from runbook.embedded.database import embedded_conninfo

    conninfo = embedded_conninfo(named["name"])
    if named["database"]:
        conninfo = make_conninfo(conninfo, dbname=unquote(named["database"]))
    return Target(reference=shown or url, display=url, conninfo=conninfo)


def _parse(url: str, what: str) -> dict[str, Any]:
    """Return libpq's keywords of a PostgreSQL URL."""
    scheme, separator, rest = url.partition("://")
    if not separator:
        raise UsageError(f"{what} is no URL: it has no '://'.", FORMS)
    if scheme not in ("postgresql", "postgres", "postgresql+psycopg"):
        shown = scheme if re.fullmatch(r"[a-zA-Z0-9+.-]{1,40}", scheme) else "an unknown scheme"
        raise UsageError(f"{what} is for {shown}, and only PostgreSQL is supported.", FORMS)
    if urlsplit(f"postgresql://{rest}").netloc.count("@") > 1:
        raise UsageError(
            f"{what} has more than one '@' before the host.",
            "Write an '@' inside user name or password as %40.",
        )
    try:
        return {k: v for k, v in conninfo_to_dict(f"postgresql://{rest}").items() if v is not None}
    except psycopg.Error:
        # libpq's own message would repeat the part that it stumbled over, which may be secret.
        raise UsageError(
            f"{what} cannot be parsed.",
            "Percent-encode special characters in user name and password (% is %25), and check "
            "the names of parameters after '?'.",
        ) from None


def _display(parts: Mapping[str, Any]) -> str:
    """Return the URL without secrets."""
    shown = {key: str(parts[key]) for key in _SHOWN if parts.get(key)}
    host = shown.get("host") or shown.get("hostaddr", "")
    user = f"{shown['user']}@" if "user" in shown else ""
    port = f":{shown['port']}" if "port" in shown else ""
    place = f"{user}{'' if host.startswith('/') else host}{port}"
    query = [f"host={host}"] if host.startswith("/") else []
    query += [f"service={shown['service']}"] if "service" in shown else []
    return f"postgresql://{place}/{shown.get('dbname', '')}" + (
        "?" + "&".join(query) if query else ""
    )


def connect(target: Target, *, application: str = "runbook") -> Session:
    """Return an open connection in autocommit mode, whose SQL searches no schema of others.

    Raises `ConnectionRefused`, which says who did not answer and why.
    """
    given = conninfo_to_dict(target.conninfo)
    timeout = given.get("connect_timeout") or os.environ.get("PGCONNECT_TIMEOUT")
    try:
        connection = open_session(
            target.conninfo, application=application, connect_timeout=_seconds(timeout)
        )
    except psycopg.OperationalError as error:
        raise ConnectionRefused(
            f"Cannot connect to {target.display}: {_reason(error, given.get('password'))}.",
            "Nothing was changed. Check host, port, database, user and password (its special "
            "characters percent-encoded), and that the server takes connections from here.",
        ) from None
    if not connection.is_pooled:  # the setting would outlive this connection's use of the session
        _notice_dead_clients(connection)
    return connection


def require_utf8(connection: psycopg.Connection[Any]) -> None:
    """Raise `UsageError` unless text travels as UTF-8: plans are, and would arrive garbled."""
    if connection.info.encoding != "utf-8":
        raise UsageError(
            f"The connection's encoding is {connection.info.encoding}, and UTF-8 is needed.",
            "Set client_encoding to utf8.",
        )


def _seconds(timeout: object) -> int:
    """Return a connect timeout. Raises `UsageError` if it is no number."""
    try:
        return int(str(timeout or CONNECT_TIMEOUT_S))
    except ValueError:
        raise UsageError(
            "The connect_timeout of the database URL is no whole number of seconds.", FORMS
        ) from None


def _notice_dead_clients(connection: psycopg.Connection[Any]) -> None:
    """Have the server cancel a query whose client died (client_connection_check_interval)."""
    with contextlib.suppress(psycopg.Error):  # not offered by every server platform
        connection.execute("SELECT set_config('client_connection_check_interval', '2s', false)")


def _reason(error: psycopg.Error, password: object) -> str:
    """Return libpq's reason in one line, without the password should it repeat it."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    reason = next((line for line in reversed(lines) if "FATAL" in line or "failed" in line), "")
    reason = reason or (lines[0] if lines else "no reason given")
    reason = reason.removeprefix("- ").rpartition("failed: ")[2].removeprefix("FATAL:").strip()
    if isinstance(password, str) and password:
        reason = reason.replace(password, "***")
    return reason.rstrip(".")
