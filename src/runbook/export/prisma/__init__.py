"""Prisma: the migration that its folder must hold, the schema that its client is made from, and
the row by which it knows that a migration was run."""

from runbook.export.prisma.export import Exported, export_prisma
from runbook.export.prisma.history import History, Prisma, forget, recorded_check

__all__ = ["Exported", "History", "Prisma", "export_prisma", "forget", "recorded_check"]
