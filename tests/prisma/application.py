"""The music application with the real Prisma, and a database that Prisma has made."""

import json
import os
import re
import shutil
import subprocess
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path

from runbook.sample.counts import SAMPLE
from runbook.sample.load import load_rows
from tests.conftest import Cluster, Database

INSTALLED = os.environ.get("RUNBOOK_PRISMA", "")
"""Where `make prisma-check` has installed it; '' in the ordinary suite."""

SOURCE = Path(__file__).parent / "app"

INIT = "20240901000000_init"
"""The application's first migration: what the sample database is made of."""

EMPTY = "-- This is an empty migration."

_ENGINES = (
    "PRISMA_SCHEMA_ENGINE_BINARY", "PRISMA_QUERY_ENGINE_LIBRARY", "PRISMA_QUERY_ENGINE_BINARY",
)  # fmt: skip
"""Prisma looks for its downloaded engines, although with an adapter it runs without them."""


def prisma_folder(target: Path) -> Path:
    """Copy the application's Prisma folder as it is before the migration."""
    shutil.copytree(SOURCE / "prisma", target)
    first = target / "migrations" / INIT / "migration.sql"
    first.parent.mkdir()
    parts = (files("runbook.sample").joinpath(name) for name in ("schema.sql", "keys.sql"))
    first.write_text("\n".join(part.read_text("utf-8") for part in parts), "utf-8")
    return target


@dataclass(frozen=True)
class Application:
    """Its folder, and its database."""

    folder: Path
    cluster: Cluster
    database: Database

    @classmethod
    def make(cls, folder: Path, cluster: Cluster) -> "Application":
        """Set it up as it was before the migration, by Prisma itself, with the sample's rows."""
        shutil.copytree(SOURCE, folder, ignore=shutil.ignore_patterns("prisma"))
        prisma_folder(folder / "prisma")
        (folder / "node_modules").symlink_to(Path(INSTALLED) / "node_modules")
        application = cls(folder, cluster, cluster.make())
        application.prisma("migrate", "deploy")
        with application.database.connect() as connection:
            load_rows(connection, SAMPLE)
        return application

    @property
    def prisma_dir(self) -> Path:
        return self.folder / "prisma"

    @property
    def schema(self) -> str:
        return (self.prisma_dir / "schema.prisma").read_text("utf-8")

    def prisma(self, *arguments: str, fails: bool = False) -> str:
        """Run a command of Prisma's; return what it printed on standard output, on both where it
        must fail."""
        return self._run(["node_modules/.bin/prisma", *arguments], fails=fails)

    def node(self, script: str) -> str:
        return self._run(["node", script])

    def _run(self, command: list[str], *, fails: bool = False) -> str:
        shadow = self.cluster.make()
        dummy = self.folder / "no-engine"
        dummy.touch(mode=0o755)
        environment = os.environ | {
            **dict.fromkeys(_ENGINES, str(dummy)),
            "DATABASE_URL": self.database.url.replace("@/", "@localhost/"),
            "DIRECT_URL": self.database.url.replace("@/", "@localhost/"),
            "SHADOW_DATABASE_URL": shadow.url.replace("@/", "@localhost/"),
            "CHECKPOINT_DISABLE": "1",
            "PRISMA_HIDE_UPDATE_MESSAGE": "1",
        }
        try:
            ended = subprocess.run(
                command,
                cwd=self.folder,
                env=environment,
                capture_output=True,
                text=True,
                timeout=120,
                check=False,
            )
        finally:
            self.cluster.drop(shadow)
        assert (ended.returncode != 0) is fails, (command, ended.stdout, ended.stderr)
        return ended.stdout + (ended.stderr if fails else "")

    def drift(self) -> str:
        """Return the SQL that would make of the database what the schema says."""
        pulled = self.prisma("db", "pull", "--print")
        (self.folder / "pulled.prisma").write_text(pulled[pulled.index("generator client") :])
        return self._diff("--from-schema-datamodel", "pulled.prisma")

    def file_drift(self) -> str:
        """Return the SQL that would make of what the folder's files give what the schema says."""
        return self._diff("--from-migrations", "prisma/migrations")

    def _diff(self, *of: str) -> str:
        to = ("--to-schema-datamodel", "prisma/schema.prisma", "--script")
        return self.prisma("migrate", "diff", *of, *to).strip()

    def generated(self) -> set[str]:
        """Generate the client; return the models and enums that it knows."""
        self.prisma("generate")
        types = (self.folder / "client" / "index.d.ts").read_text("utf-8")
        return set(re.findall(r"^\s*export (?:type|const) (\w+)\b", types, re.MULTILINE))

    def counted(self) -> dict[str, int]:
        """Return the entries by category, as the generated client counts them."""
        return dict(json.loads(self.node("count.mjs")))
