"""Writing the migration into a Prisma folder, and the edits of the schema."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from runbook.errors import UsageError
from runbook.export.prisma.folder import Folder, read_folder
from runbook.export.prisma.migration import canonical_plan, migration_sql
from runbook.export.prisma.schema import edit_schema, enum_name, has_enum, model_names
from runbook.facts import Catalog
from runbook.placed import replace_file
from runbook.plan import Plan
from runbook.spec import Spec

_STAMP = "%Y%m%d%H%M%S"


@dataclass(frozen=True, kw_only=True)
class Exported:
    """What was written."""

    migration: str
    """The migration's name, which is its folder's."""
    files: tuple[Path, ...]
    """The files, the migration's first."""


def export_prisma(spec: Spec, catalog: Catalog, plan: Plan, path: Path) -> Exported:
    """Write `migrations/<timestamp>_…/migration.sql`, and edit the schema's files.

    All is made before anything is written. Raises `UsageError` where the folder is none of
    Prisma's, cannot be written, or its schema has no model of the table.
    """
    folder = read_folder(path)
    texts = {file: _text(file) for file in folder.schemas}
    names = model_names(spec, list(texts.values()))
    created = enum_name(spec)
    there = created is not None and any(has_enum(text, created) for text in texts.values())
    renamed = _renamed(canonical_plan(spec, catalog, plan))
    name = f"{_stamp(folder)}_{names.migration if spec.table_after != spec.table else spec.name}"
    file = folder.migrations_path / name / "migration.sql"
    edits: dict[Path, str] = {file: migration_sql(spec, catalog, plan)}
    for file, text in texts.items():
        edited = edit_schema(text, spec, names, renamed, has_enum=there)
        if edited != text:
            edits[file] = edited
    _write(edits)
    return Exported(migration=name, files=tuple(edits))


def _text(file: Path) -> str:
    """Return a schema's text, its line ends as they are."""
    try:
        return file.read_bytes().decode("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(
            f"{file} cannot be read: {error}.", "Correct it, then export again."
        ) from error


def _stamp(folder: Folder) -> str:
    """Return a timestamp that sorts after every migration of the folder."""
    now = datetime.now(UTC).strftime(_STAMP)
    last = max((one.name.partition("_")[0] for one in folder.migrations), default="")
    if last < now:
        return now
    try:
        return (datetime.strptime(last, _STAMP) + timedelta(seconds=1)).strftime(_STAMP)
    except ValueError:
        raise UsageError(
            f"Migration {folder.migrations[-1].name} does not begin with a time, and sorts after "
            f"{now}.",
            "Rename it: Prisma runs migrations in the order of their names.",
        ) from None


def _renamed(plan: Plan) -> Mapping[str, str]:
    """Return what follows the table: name before → after."""
    made = (statement.made for statement in plan.statements if statement.made)
    return {one.before: one.name for one in made if one.before and one.kind != "table"}


def _write(files: Mapping[Path, str]) -> None:
    """Write all files, each whole or not at all."""
    for file, text in files.items():
        try:
            file.parent.mkdir(parents=True, exist_ok=True)
            replace_file(file, text.encode())
        except OSError as error:
            raise UsageError(
                f"{file} cannot be written: {error.strerror}.",
                "Mend that, and undo what was written already (git checkout), then export again.",
            ) from error
