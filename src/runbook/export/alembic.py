"""The plan as a revision of Alembic: a file that runs by itself, without the runbook."""

import re
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from importlib import resources
from pathlib import Path

from runbook import __version__, sql
from runbook.errors import UsageError
from runbook.export.hosted import hosted, hosted_back
from runbook.facts import Table
from runbook.placed import replace_file
from runbook.plan.model import Plan
from runbook.plan.script import Part, in_a_line, part
from runbook.spec import Spec
from runbook.vocabulary import Phase

REVISION_LENGTH = 12
"""As long as Alembic's own revisions; the column that holds them takes 32."""


def export_alembic(
    spec: Spec, plan: Plan, table: Table, folder: Path, *, down_revision: str | None = None
) -> Path:
    """Write the revision into `folder`, and return its path.

    It follows `down_revision`, or the newest of the revisions that are in the folder. Raises
    `UsageError` where these have several heads, or one of them cannot be read.
    """
    revision = plan.sha256[:REVISION_LENGTH]
    path = folder / f"{revision}_{spec.name.replace('-', '_')}.py"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        before = down_revision or _head(folder, revision)
        replace_file(path, _revision(spec, plan, table, revision, before).encode())
    except OSError as error:
        raise UsageError(
            f"The revision cannot be written to {folder}: {error.strerror}.",
            "Give a folder that can be written with --out.",
        ) from error
    return path


def _head(folder: Path, own: str) -> str | None:
    """Return the revision in the folder that none follows, apart from an earlier export."""
    from alembic.script import ScriptDirectory

    try:
        script = ScriptDirectory(str(folder), version_locations=[str(folder)])
        found = {one.revision: one.down_revision for one in script.walk_revisions()}
    except Exception as error:  # a revision is code: importing it may raise anything
        reason = next(iter(str(error).splitlines()), type(error).__name__)
        raise UsageError(
            f"The revisions in {folder} cannot be read: {reason}.",
            "Mend them, or name the one before with --down-revision.",
        ) from error
    followed = {
        before
        for revision, down in found.items()
        if revision != own
        for before in ([down] if isinstance(down, str) else down or [])
    }
    heads = sorted(set(found) - followed - {own})
    if own in followed:
        raise UsageError(
            f"Revision {own} is in {folder} already, and another one follows it.",
            "It is the same plan: nothing needs to be exported.",
        )
    if len(heads) > 1:
        raise UsageError(
            f"The revisions in {folder} have {len(heads)} heads: {', '.join(heads)}.",
            "Say which one it follows with --down-revision.",
        )
    return heads[0] if heads else None


def _revision(
    spec: Spec, plan: Plan, table: Table, revision: str, down_revision: str | None
) -> str:
    """Return the file's text."""
    template = resources.files("runbook.export").joinpath("alembic.py.txt").read_text("utf-8")
    ledger = sql.spelled(plan.ledger_schema, "ledger")
    values = {
        "heading": _in_docstring(spec.heading),
        "revision": revision,
        "revises": _in_docstring(down_revision or ""),
        "down_revision": repr(down_revision),
        "created": f"{datetime.now(UTC):%Y-%m-%d %H:%M:%S}",
        "version": __version__,
        "sha256": plan.sha256,
        "ledger": _literal(sql.text(sql.value(ledger))),
        "applied": _literal(
            sql.render(
                _APPLIED,
                ledger=sql.name(plan.ledger_schema, "ledger"),
                rollback=sql.name(plan.ledger_schema, "rollback"),
                spec=sql.value(spec.sha256),
                table=sql.value(plan.table_before),
                schema=sql.value(plan.schema),
            )
        ),
        "prepare": _statements(part(one) for one in plan.of_phase(Phase.PREPARE)),
        "upgrade": _statements(hosted(spec, plan, table, "alembic")),
        "downgrade": _statements(hosted_back(plan, "alembic")),
    }
    return re.sub(r"«(\w+)»", lambda found: values[found[1]], template)


def _in_docstring(text: str) -> str:
    return in_a_line(text).replace("\\", "/").replace('"', "'")


_APPLIED = """\
SELECT EXISTS (
    SELECT FROM {ledger} AS l
    WHERE l.spec_sha256 = {spec} AND l.table_schema = {schema} AND l.table_before = {table}
      AND l.run_id NOT IN (SELECT b.run_id FROM {rollback} AS b)
)"""


def _statements(parts: Iterable[Part]) -> str:
    """Return statements as the lines of a Python tuple."""
    return "\n".join(_lines(parts))


def _lines(parts: Iterable[Part]) -> Iterator[str]:
    for one in parts:
        yield from (f"    # {in_a_line(comment)}" for comment in one.comments)
        yield f"    {_literal(one.sql)},"


def _literal(text: str) -> str:
    """Return a Python literal: readable where it can be, and always equal to the text."""
    if '"""' in text or text.endswith(('"', "\\")) or "\r" in text:
        return repr(text)
    return f'r"""{text}"""'
