"""The plan as files for the tools that an application migrates with: Flyway, Liquibase, Alembic,
Prisma.

Each of them opens the transaction itself, records in its own table what it ran, and goes on in the
same session; so the plan comes as plain SQL, and leaves the session's settings as it found them.
"""

from runbook.export.alembic import export_alembic
from runbook.export.flyway import flyway
from runbook.export.liquibase import liquibase
from runbook.export.prisma import Exported, History, Prisma, export_prisma, recorded_check

__all__ = [
    "Exported",
    "History",
    "Prisma",
    "export_alembic",
    "export_prisma",
    "flyway",
    "liquibase",
    "recorded_check",
]
