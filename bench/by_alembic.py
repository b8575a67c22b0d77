"""The plan's own migration as an Alembic revision, upgraded to in a process of its own.

Called by the benchmark with a conninfo; prints one JSON object.
"""

import argparse
import json
import tempfile
import time
from pathlib import Path

import psycopg
from alembic import command
from alembic.config import Config
from sqlalchemy import create_engine

from bench.worker import peak_bytes

_REVISION = '''\
"""enrichment_logs becomes llama_logs"""

from alembic import op
from sqlalchemy import Column
from sqlalchemy.dialects.postgresql import ENUM

revision, down_revision = "0001", None

LABELS = ("CREATED", "ENRICHED", "CORRECTED", "CACHED", "FAILED")
RULES = {
    "CACHED": "operation LIKE 'cache:%'",
    "CORRECTED": "operation = 'admin_correction'",
    "ENRICHED": "(operation LIKE 'enrichment:%' OR operation LIKE 'check:%'"
    " OR operation LIKE 'musicbrainz:%' OR operation LIKE 'spotify:%'"
    " OR operation LIKE 'discogs:%' OR operation = 'PREVIEW_ENRICHMENT')",
    "FAILED": "status = 'FAILED'",
    "CREATED": "true",
}


def upgrade() -> None:
    category = ENUM(*LABELS, name="LlamaLogCategory", create_type=False)
    op.rename_table("enrichment_logs", "llama_logs")
    category.create(op.get_bind())
    op.add_column("llama_logs", Column("category", category))
    op.create_index("llama_logs_category_createdAt_idx", "llama_logs", ["category", "created_at"])
    for label, rule in RULES.items():
        op.execute(
            f"UPDATE llama_logs SET category = '{label}' WHERE {rule} AND category IS NULL"
        )
    op.alter_column("llama_logs", "category", nullable=False)
'''

_ENVIRONMENT = """\
from alembic import context

with context.config.attributes["engine"].connect() as connection:
    context.configure(connection=connection)
    with context.begin_transaction():
        context.run_migrations()
"""


def main(conninfo: str) -> None:
    """Upgrade the database, ask the plan's verification queries, and print what it took."""
    with tempfile.TemporaryDirectory(prefix="runbook-bench-") as folder:
        config = _configured(Path(folder))
        engine = create_engine("postgresql+psycopg://", creator=lambda: psycopg.connect(conninfo))
        config.attributes["engine"] = engine
        started = time.monotonic()
        command.upgrade(config, "head")
        locked_s = time.monotonic() - started
        engine.dispose()
    with psycopg.connect(conninfo, autocommit=True) as connection:
        connection.execute(Path(__file__).with_name("plan_verification.sql").read_bytes())
    database_s = time.monotonic() - started
    print(json.dumps({"database_s": database_s, "locked_s": locked_s, "peak_bytes": peak_bytes()}))


def _configured(folder: Path) -> Config:
    """Write what Alembic reads; return its configuration."""
    (folder / "versions").mkdir()
    (folder / "versions" / "0001.py").write_text(_REVISION, "utf-8")
    (folder / "env.py").write_text(_ENVIRONMENT, "utf-8")
    config = Config()
    config.set_main_option("script_location", str(folder))
    return config


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m bench.by_alembic", description=__doc__)
    parser.add_argument("conninfo")
    main(parser.parse_args().conninfo)
