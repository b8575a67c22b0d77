"""The benchmark's databases: a temporary server, a template with the rows, and identical copies."""

import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg
from psycopg import sql

from runbook.embedded import Server, wheel_binaries
from runbook.sample import EVEN_SHARES, create_indexes, create_schema, load_rows, scaled

SETTINGS: Mapping[str, str] = {
    # Everything else is as initdb leaves it. A vacuum in the middle of one contestant and not of
    # the other would decide.
    "autovacuum": "off",
}
TEMPLATE = "bench_template"

DISTRIBUTIONS: Mapping[str, Mapping[str, float] | None] = {"real": None, "even": EVEN_SHARES}
"""`real` has 93 % of the rows in one label, as the real table; `even` has no label above 40 %."""

COMMONEST = "ENRICHED"
"""The label of most rows, in both."""

_DEBIAN = Path("/usr/lib/postgresql")


def binaries(major: int | None) -> Path:
    """Return the folder of PostgreSQL's programs: Debian's if installed, else the wheel's.

    Without `major` it is 15 where that is installed, else 18. Raises `EmbeddedError` if there is
    no such version.
    """
    for candidate in [major] if major else [15, 18]:
        if (_DEBIAN / str(candidate) / "bin" / "postgres").is_file():
            return _DEBIAN / str(candidate) / "bin"
    return wheel_binaries(major or 18)


@dataclass(frozen=True, kw_only=True)
class Sizes:
    """What a table takes on disk, in bytes."""

    heap_bytes: int
    index_bytes: int


class Databases:
    """Databases on one running server."""

    def __init__(self, server: Server) -> None:
        self._server = server

    def conninfo(self, name: str) -> str:
        """Return libpq's words for a database; they hold no secret."""
        return self._server.conninfo(name)

    def make_template(self, rows: int, distribution: str) -> None:
        """Make the database that every contestant gets a copy of, vacuumed and on disk. The
        distribution is one of `DISTRIBUTIONS`."""
        self._admin(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(TEMPLATE)))
        with psycopg.connect(self.conninfo(TEMPLATE), autocommit=True) as connection:
            create_schema(connection, indexes=False)
            load_rows(connection, scaled(rows, DISTRIBUTIONS[distribution]), analyze=False)
            create_indexes(connection)
            connection.execute("VACUUM ANALYZE")
            connection.execute("CHECKPOINT")

    @contextmanager
    def copied(self, name: str) -> Iterator[None]:
        """Make a copy of the template, which is removed afterwards."""
        self.copy(name)
        try:
            yield
        finally:
            self.drop(name)

    def copy(self, name: str) -> None:
        """Make a copy of the template, on disk and warm, the same way for every contestant."""
        self._admin(
            sql.SQL("CREATE DATABASE {} TEMPLATE {} STRATEGY file_copy").format(
                sql.Identifier(name), sql.Identifier(TEMPLATE)
            )
        )
        self._admin(sql.SQL("CHECKPOINT"))
        # The copying left every file in the cache of the operating system already.
        self.one(name, "SELECT count(*) FROM enrichment_logs WHERE operation IS NULL")

    def drop(self, name: str) -> None:
        """Remove a copy."""
        self._admin(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name)))

    def one(self, name: str, query: str) -> Any:
        """Return the one value that a query of this package's own gives."""
        with psycopg.connect(self.conninfo(name), autocommit=True) as connection:
            row = connection.execute(query.encode()).fetchone()
        assert row is not None
        return row[0]

    def wal_position(self) -> int:
        """Return how many bytes of WAL were written since the server was made."""
        return int(
            self.one("postgres", "SELECT pg_wal_lsn_diff(pg_current_wal_insert_lsn(), '0/0')")
        )

    def sizes(self, name: str, table: str) -> Sizes:
        """Return the sizes of a table and of all its indexes."""
        with psycopg.connect(self.conninfo(name), autocommit=True) as connection:
            row = connection.execute(
                "SELECT pg_relation_size(t), pg_indexes_size(t) FROM to_regclass(%s) AS t", [table]
            ).fetchone()
        assert row is not None
        return Sizes(heap_bytes=row[0], index_bytes=row[1])

    def categories(self, name: str) -> dict[str, int]:
        """Return the rows per category of a migrated copy."""
        with psycopg.connect(self.conninfo(name), autocommit=True) as connection:
            rows = connection.execute(
                "SELECT category::text, count(*) FROM llama_logs GROUP BY 1 ORDER BY 1"
            ).fetchall()
        return dict(rows)

    def _admin(self, statement: sql.SQL | sql.Composed) -> None:
        with psycopg.connect(self.conninfo("postgres"), autocommit=True) as connection:
            connection.execute(statement)


@contextmanager
def temporary_server(
    major: int | None, settings: Mapping[str, str] = SETTINGS
) -> Iterator[tuple[Databases, Path]]:
    """Run a server in the temporary folder; yield its databases and the folder of its programs."""
    programs = binaries(major)
    with tempfile.TemporaryDirectory(prefix="runbook-bench-") as folder:
        server = Server(
            Path(folder) / "server", binaries=programs, settings=settings, checksums=False
        )
        try:
            with server.lease():
                yield Databases(server), programs
        finally:
            server.destroy()
