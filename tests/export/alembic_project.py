"""An application that migrates with Alembic, on a database that it has already a revision in."""

import io
import pickle
from dataclasses import dataclass, replace
from pathlib import Path

from alembic import command
from alembic.config import Config
from sqlalchemy import MetaData, NullPool, create_engine

from tests.conftest import Database

_ENV = """\
import pickle

from alembic import context
from sqlalchemy import create_engine, pool

metadata = None
models = context.config.get_main_option("models")
if models == "shipped":
    from runbook.models.llamalog import Base

    metadata = Base.metadata
elif models:
    with open(models, "rb") as file:
        metadata = pickle.load(file)
url = context.config.get_main_option("sqlalchemy.url")
if context.is_offline_mode():
    context.configure(url=url, target_metadata=metadata)
    with context.begin_transaction():
        context.run_migrations()
else:
    with create_engine(url, poolclass=pool.NullPool).connect() as connection:
        context.configure(connection=connection, target_metadata=metadata)
        with context.begin_transaction():
            context.run_migrations()
"""

_REVISION = """\
revision = {revision!r}
down_revision = {down!r}


def upgrade():
    {upgrade}


def downgrade():
    pass
"""


@dataclass(frozen=True)
class Project:
    """The project's folder, and its database."""

    folder: Path
    database: Database
    models: str = ""
    """What `alembic check` compares with: `shipped`, or a file of pickled metadata."""

    @property
    def versions(self) -> Path:
        return self.folder / "versions"

    def make(self) -> None:
        """Write the project, and stamp the database with its first revision."""
        self.versions.mkdir(parents=True)
        (self.folder / "env.py").write_text(_ENV)
        self.add("first", None)
        self.run("stamp", "head")

    def add(self, revision: str, down: str | None, upgrade: str = "pass") -> None:
        text = _REVISION.format(revision=revision, down=down, upgrade=upgrade)
        (self.versions / f"{revision}.py").write_text(text)

    def remember(self) -> "Project":
        """Return the project with the database as it is now for its models."""
        metadata = MetaData()
        url = self.database.url.replace("postgresql://", "postgresql+psycopg://")
        engine = create_engine(url, poolclass=NullPool)
        metadata.reflect(engine)
        metadata.remove(metadata.tables["alembic_version"])
        file = self.folder / "before.pickle"
        file.write_bytes(pickle.dumps(metadata))
        return replace(self, models=str(file))

    def run(self, name: str, *arguments: str, **more: bool) -> str:
        """Run a command of Alembic's; return what it printed."""
        printed = io.StringIO()
        config = Config(output_buffer=printed, stdout=printed)
        config.set_main_option("script_location", str(self.folder))
        config.set_main_option("path_separator", "os")
        url = self.database.url.replace("postgresql://", "postgresql+psycopg://")
        config.set_main_option("sqlalchemy.url", url.replace("%", "%%"))
        config.set_main_option("models", self.models)
        getattr(command, name)(config, *arguments, **more)
        return printed.getvalue()
