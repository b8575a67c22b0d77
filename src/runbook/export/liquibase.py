"""The plan as a changelog of Liquibase, in its formatted SQL."""

from collections.abc import Iterable, Iterator

from runbook import __version__
from runbook.export.hosted import hosted, hosted_back, require_plain
from runbook.facts import Table
from runbook.plan.model import Plan
from runbook.plan.script import Part, in_a_line, part
from runbook.spec import Spec
from runbook.vocabulary import Phase

_HEAD = """\
--liquibase formatted sql

-- Migration: {heading}
-- plan {sha256}
-- made by migration-runbook {version} for Liquibase
-- A changeset is one transaction: it is all applied, or nothing is."""

# Split, Liquibase would cut the blocks at their semicolons; without comments it would lose what
# a person reads in the server's log.
_CHANGESET = (
    "--changeset migration-runbook:{id} splitStatements:false rollbackSplitStatements:false "
    "stripComments:false"
)


def liquibase(spec: Spec, plan: Plan, table: Table) -> str:
    """Return the changelog, with the way back as the changeset's rollback.

    Liquibase goes by lines and knows no quotes: what begins with two hyphens may be an instruction.
    So comments begin with words of ours. Raises `UsageError` where a statement holds such a line.
    """
    head = _HEAD.format(heading=in_a_line(spec.heading), sha256=plan.sha256, version=__version__)
    return "\n\n".join([head, *_changesets(spec, plan, table)]) + "\n"


def _changesets(spec: Spec, plan: Plan, table: Table) -> Iterator[str]:
    """Yield what must be committed before the rest, then the rest."""
    id_ = f"{spec.name}-{plan.sha256[:12]}"
    for n, statement in enumerate(plan.of_phase(Phase.PREPARE), start=1):
        first = _changeset(f"{id_}-{n}", [part(statement)])
        yield f"{first}\n\n--rollback SELECT 'no PostgreSQL can take a label away';"
    changeset = _changeset(id_, hosted(spec, plan, table, "liquibase"))
    back = "\n".join(map(str, require_plain(hosted_back(plan, "liquibase"), "Liquibase")))
    lines = [f"--rollback {line}" for line in back.splitlines() if line.strip()]
    yield "\n\n".join([changeset, "\n".join(lines)])


def _changeset(id_: str, parts: Iterable[Part]) -> str:
    return "\n\n".join([_CHANGESET.format(id=id_), *map(str, require_plain(parts, "Liquibase"))])
