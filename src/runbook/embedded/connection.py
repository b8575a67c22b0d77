"""How a client reaches the server: conninfo words, the TCP URL, and the superuser's password."""

import re
from pathlib import Path
from urllib.parse import quote

from runbook.errors import EmbeddedError

SUPERUSER = "postgres"


def socket_conninfo(folder: Path, port: int, dbname: str) -> str:
    """Return libpq's `key=value` words for the superuser on the Unix socket in `folder`."""
    words = {"host": str(folder), "port": str(port), "user": SUPERUSER, "dbname": dbname}
    return " ".join(f"{key}={_quoted(value)}" for key, value in words.items())


def tcp_url(password: str, port: int, dbname: str) -> str:
    """Return the URL of the superuser on 127.0.0.1; it holds the password."""
    return f"postgresql://{SUPERUSER}:{quote(password, safe='')}@127.0.0.1:{port}/{quote(dbname)}"


def set_password(conninfo: str, password: str) -> None:
    """Set the superuser's password; the server gets only its SCRAM verifier.

    Raises EmbeddedError if the server does not take it.
    """
    import psycopg  # Here, because a server without a password starts without it.
    from psycopg import sql

    try:
        with psycopg.connect(conninfo, autocommit=True) as connection:
            verifier = connection.pgconn.encrypt_password(
                password.encode(), SUPERUSER.encode(), b"scram-sha-256"
            )
            statement = sql.SQL("ALTER ROLE {} PASSWORD {}")
            connection.execute(
                statement.format(sql.Identifier(SUPERUSER), sql.Literal(verifier.decode()))
            )
    except psycopg.Error as error:
        raise EmbeddedError(
            f"The embedded server does not take the password: {error}.",
            "End what else uses the server, then run this again.",
        ) from error


def _quoted(value: str) -> str:
    if re.fullmatch(r"[\w./:@+-]+", value, re.ASCII):
        return value
    escaped = value.replace("\\", "\\\\").replace("'", "\\'")
    return f"'{escaped}'"
